"""Does being able to go back help in robotics? PPO on MuJoCo with and without backtracking.

    python experiments/backtrack_mujoco.py --workers 2
    python experiments/backtrack_mujoco.py --tune --workers 2

Every arm pays for the same number of interactions: environment steps that stand, steps that were
undone, and the backtracks themselves. The trained policy is evaluated with backtracking on and
off. A finished run is a JSON file under runs/backtrack_mujoco and is not done again; a killed one
is done anew, from its seed. Settings were chosen with --tune, on seeds that are not reported.
Writes experiments/results/backtrack_mujoco[_tuning].json and figures/backtrack_mujoco.svg.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from rich.progress import track
from scipy.stats import trim_mean
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

import envs
from delegate import VectorBacktrack, store
from delegate.backtrack.stable_baselines import StableVecEnv

HERE = Path(__file__).parent
ROWS = 8
EVALUATIONS = 10
EPISODES = 16
TUNING_SEEDS = (1000, 1001)
SEEDS = (0, 1, 2, 3, 4)
STEPS = {"Hopper-v5": 400_000, "Walker2d-v5": 400_000, "Humanoid-v5": 400_000}
PPO_SETTINGS: dict[str, Any] = {
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
}
"""Stable-Baselines3's defaults, its 2,048 steps a rollout spread over 8 rows"""


@dataclass(frozen=True)
class Arm:
    """What may be undone, and at what price; `settings` are those of VectorBacktrack.

    random: probability per decision of a backtrack that the policy does not choose; None where
    the policy chooses · backtracks: False for the plain task
    """

    name: str
    backtracks: bool = True
    random: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


BASE: dict[str, Any] = {
    "depths": (1, 4, 16),
    "budget": 8,
    "horizon": 64,
    "cost": 1.0,
    "threshold": 0.9,
    "observe": ("flag",),
}
ARMS = (
    Arm("none", backtracks=False),
    Arm("backtrack", settings=BASE),
    Arm("random", random=0.01, settings=BASE),
)


def tuning_arms() -> Iterator[Arm]:
    """One change at a time around BASE, refunds and prices first."""
    yield Arm("none", backtracks=False)
    yield Arm("base", settings=BASE)
    for name, change in {
        "cost-0.1": {"cost": 0.1},
        "cost-10": {"cost": 10.0},
        "budget-2": {"budget": 2},
        "budget-32": {"budget": 32},
        "depth-1": {"depths": (1,)},
        "depth-16": {"depths": (16,)},
        "depth-48": {"depths": (48,)},
        "threshold-0.5": {"threshold": 0.5},
        "discounted": {"refund": "discounted", "gamma": PPO_SETTINGS["gamma"]},
    }.items():
        yield Arm(name, settings={**BASE, **change})


class RandomBacktracks(VecEnvWrapper):
    """The policy acts in the plain action space; backtracks come at random.

    rate: probability per row and decision; every depth is equally likely
    """

    def __init__(self, venv: VecEnv, rate: float, threshold: float, seed: int) -> None:
        space = venv.action_space
        assert isinstance(space, Box)
        super().__init__(venv, action_space=Box(space.low[:-1], space.high[:-1]))
        self.rate, self.threshold = rate, threshold
        self._rng = np.random.default_rng([seed, 7])

    def reset(self) -> np.ndarray:
        return self.venv.reset()  # type: ignore[return-value]

    def step_async(self, actions: np.ndarray) -> None:
        back = self._rng.random(self.num_envs) < self.rate
        depth = self._rng.uniform(np.nextafter(self.threshold, 2), 1.0, self.num_envs)
        last = np.where(back, depth, -1.0).astype(np.float32)
        self.venv.step_async(np.concatenate([actions, last[:, None]], axis=1))

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def world(task: str, arm: Arm, rows: int, budget: int | None = None) -> StableVecEnv:
    """The task as the arm's learner meets it; budget: instead of the arm's, 0 for none."""
    env = envs.make(task, rows, autoreset_mode=AutoresetMode.DISABLED)
    if not arm.backtracks:
        return StableVecEnv(env)
    settings = arm.settings if budget is None else {**arm.settings, "budget": budget}
    return StableVecEnv(VectorBacktrack(env, **settings))


def evaluate(model: PPO, task: str, arm: Arm, seed: int, on: bool) -> dict[str, float]:
    """Mean over EPISODES deterministic episodes, of what survived: return and length, and what
    was undone. on: may it go back? Not charged to the learner."""
    env = world(task, arm, EPISODES, budget=None if on else 0)
    env.seed(seed)
    trained = model.get_vec_normalize_env()
    assert trained is not None
    observation = env.reset()
    first = [None] * EPISODES
    while any(found is None for found in first):
        action, _ = model.predict(trained.normalize_obs(observation), deterministic=True)
        if env.action_space.shape != model.action_space.shape:
            action = np.concatenate([action, np.full((EPISODES, 1), -1.0, np.float32)], axis=1)
        observation, _, done, infos = env.step(action)
        for row in np.flatnonzero(done):
            first[row] = first[row] or infos[row]["episode"]
    kept = [
        (f.get("path_return", f["r"]), f.get("path_length", f["l"]), f.get("undone", 0))
        for f in first
        if f is not None
    ]
    returns, lengths, undone = zip(*kept, strict=True)
    return {
        "return": float(np.mean(returns)),
        "length": float(np.mean(lengths)),
        "undone": float(np.mean(undone)),
    }


class Curve(BaseCallback):
    """Evaluates at equal numbers of interactions and counts what was undone in training."""

    def __init__(self, task: str, arm: Arm, seed: int, total: int) -> None:
        super().__init__()
        self.task, self.arm, self.seed, self.every = task, arm, seed, total // EVALUATIONS
        self.points: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        while len(self.points) * self.every <= self.num_timesteps:
            self.evaluate()

    def evaluate(self) -> None:
        """One point of the curve."""
        point: dict[str, Any] = {"interactions": int(self.num_timesteps)}
        for mode, on in (("off", False), ("on", True)):
            if on and not (self.arm.backtracks and self.arm.random is None):
                continue
            point[mode] = evaluate(self.model, self.task, self.arm, 10_000 + self.seed, on)
        self.points.append(point)


def train(task: str, arm: Arm, seed: int, steps: int, out: Path) -> Path:
    """One run from its seed, written whole or not at all. steps: interactions"""
    path = out / task / arm.name / f"{seed}.json"
    if path.exists():
        return path
    torch.set_num_threads(1)
    began = time.time()
    base = world(task, arm, ROWS)
    base.seed(seed * 1_000)
    venv: VecEnv = base
    if arm.random is not None:
        venv = RandomBacktracks(base, arm.random, arm.settings["threshold"], seed)
    venv = VecNormalize(venv, gamma=PPO_SETTINGS["gamma"])
    model = PPO("MlpPolicy", venv, seed=seed, device="cpu", **PPO_SETTINGS)
    curve = Curve(task, arm, seed, steps)
    model.learn(steps, callback=curve)
    curve.evaluate()
    record = {
        "task": task,
        "arm": asdict(arm),
        "seed": seed,
        "interactions": int(model.num_timesteps),
        "curve": curve.points,
        "training": ledger(base),
        "seconds": round(time.time() - began, 1),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_file(path, store.as_json(record))
    return path


def ledger(face: StableVecEnv) -> dict[str, Any]:
    """What training paid: committed and undone steps, restores, share of do-undo loops."""
    env = face.env
    if not isinstance(env, VectorBacktrack):
        return {}
    return {**env.ledger.to_dict(), "do_undo_share": env.do_undo_share}


def summary(records: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Per task and arm: area under the evaluation curve and final return, as interquartile
    means over seeds with 95% bootstrap intervals, and the paired difference to `none`."""
    found: dict[str, Any] = {}
    for task in sorted({r["task"] for r in records}):
        of_task = [r for r in records if r["task"] == task]
        plain = {r["seed"]: scores(r, "off") for r in of_task if r["arm"]["name"] == "none"}
        for name in sorted({r["arm"]["name"] for r in of_task}):
            runs = sorted((r for r in of_task if r["arm"]["name"] == name), key=lambda r: r["seed"])
            entry: dict[str, Any] = {"seeds": [r["seed"] for r in runs]}
            for mode in ("off", "on"):
                values = {r["seed"]: scores(r, mode) for r in runs if mode in r["curve"][-1]}
                for k, what in enumerate(("area", "final")):
                    if values:
                        column = np.array([values[seed][k] for seed in values])
                        entry[f"{what}_{mode}"] = interval(column, rng)
                    shared = [seed for seed in values if seed in plain]
                    if shared and name != "none":
                        gain = np.array([values[s][k] - plain[s][k] for s in shared])
                        entry[f"{what}_{mode}_minus_none"] = interval(gain, rng)
            undone = [r["training"].get("undone", 0) / r["interactions"] for r in runs]
            back = [r["training"].get("restores", 0) / r["interactions"] for r in runs]
            entry["undone_share"], entry["backtrack_share"] = np.mean(undone), np.mean(back)
            entry["seconds"] = float(np.mean([r["seconds"] for r in runs]))
            found.setdefault(task, {})[name] = entry
    return found


def scores(record: dict[str, Any], mode: str) -> tuple[float, float]:
    """Area under the curve (mean return over interactions) and return at the end."""
    returns = [point[mode]["return"] for point in record["curve"]]
    x = [point["interactions"] for point in record["curve"]]
    return float(np.trapezoid(returns, x) / (x[-1] - x[0])), returns[-1]


def interval(values: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Interquartile mean over seeds with a 95% bootstrap interval, and every seed's value."""
    draws = values[rng.integers(0, len(values), (2_000, len(values)))]
    low, high = np.quantile(trim_mean(draws, 0.25, axis=1), (0.025, 0.975))
    return {
        "value": float(trim_mean(values, 0.25)),
        "low": float(low),
        "high": float(high),
        "n": len(values),
        "per_seed": values.tolist(),
    }


def table(found: dict[str, Any]) -> str:
    """The table of experiments/README.md."""
    lines = [
        "| task | arm | area, off | final, off | final, on | area, off, minus none | undone |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, arms in found.items():
        for name, entry in arms.items():
            cells = [
                shown(entry.get(key))
                for key in ("area_off", "final_off", "final_on", "area_off_minus_none")
            ]
            lines.append(f"| {task} | {name} | {' | '.join(cells)} | {entry['undone_share']:.1%} |")
    return "\n".join(lines)


def shown(metric: dict[str, Any] | None) -> str:
    """`1234 [1100, 1300]`, a dash where it does not apply."""
    if metric is None:
        return "–"
    return f"{metric['value']:.0f} [{metric['low']:.0f}, {metric['high']:.0f}]"


def main() -> None:
    """Train what is missing, then gather everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="the settings search, on other seeds")
    parser.add_argument("--tasks", nargs="+", default=["Hopper-v5", "Walker2d-v5"])
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--steps", type=int, help="interactions, instead of the published number")
    parser.add_argument("--out", type=Path, default=Path("runs/backtrack_mujoco"))
    given = parser.parse_args()
    arms = tuple(tuning_arms()) if given.tune else ARMS
    seeds = given.seeds or (TUNING_SEEDS if given.tune else SEEDS)
    kind = "backtrack_mujoco_tuning" if given.tune else "backtrack_mujoco"
    jobs = [
        partial(train, task, arm, seed, given.steps or STEPS[task], given.out / kind)
        for task in given.tasks
        for seed in seeds
        for arm in arms
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context) as pool:
        done = as_completed([pool.submit(job) for job in jobs])
        paths = [future.result() for future in track(done, "training", total=len(jobs))]
    records = [json.loads(path.read_text()) for path in sorted(paths)]
    found = summary(records, np.random.default_rng(0))
    result = {
        "commit": store.commit(),
        "versions": store.versions(),
        "ppo": PPO_SETTINGS,
        "rows": ROWS,
        "arms": [asdict(replace(arm)) for arm in arms],
        "seeds": list(seeds),
        "summary": found,
        "records": records,
    }
    (HERE / "results").mkdir(exist_ok=True)
    store.write_file(HERE / "results" / f"{kind}.json", store.as_json(result))
    print(table(found))


if __name__ == "__main__":
    main()
