"""The study of directions: what it measures, and that measuring changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recall_direction
import recall_direction_measure
import recall_direction_runs
import torch
from recall_direction_algorithms import KINDS
from recall_direction_measure import Step
from recall_mujoco_runs import SETTINGS, Arm, Run, learner, recalled
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces
from delegate.recall.algorithms import learner_of

NATS = (0.001, 0.01)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ROWS": 32, "STEPS": 256, "WITHIN": 100, "EPISODES": 4}.items():
        monkeypatch.setattr(recall_direction_measure, name, value)


def trained(algorithm: Any, monkeypatch: pytest.MonkeyPatch, measured: bool = True) -> Any:
    """Its directions after some learning on Hopper, and its parameters at the end."""
    monkeypatch.setitem(SETTINGS, "sac", {"learning_starts": 1_500})
    settings = {"imitation_updates": 0, "model_updates": 1, "imitation_batch": 400}
    arm = Arm(name="none", recall=settings)
    steps = {"trpo": 4_096, "sac": 2_050}[algorithm]
    run = Run(algorithm=algorithm, task="Hopper-v5", arm=arm, seed=0, steps=steps)
    model, venv = learner(run)
    beside = recalled(run)
    directions = KINDS[algorithm]("Hopper-v5", [2_048], NATS, 0, beside)
    callbacks: list[BaseCallback] = [beside, directions] if measured else [beside]
    model.learn(run.steps, callback=CallbackList(callbacks))
    venv.close()
    return directions, torch.nn.utils.parameters_to_vector(model.policy.parameters())


@pytest.mark.parametrize("algorithm", ["trpo", "sac"])
def test_directions_are_measured_and_the_policy_is_put_back(
    algorithm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    directions, end = trained(algorithm, monkeypatch)
    _, unmeasured = trained(algorithm, monkeypatch, measured=False)
    assert torch.equal(end, unmeasured), "measuring changed the training"
    rows = {(row["way"], row["nats"]): row for row in directions.found}
    assert len(rows) == len(directions.found) == 11 * len(NATS)
    for (way, nats), row in rows.items():
        assert row["divergence"] == pytest.approx(nats, rel=0.01), way
        assert 0 < row["imitated"] <= 2_048
        assert ("returned" in row) == (nats == NATS[-1])
    gained = {way: row["gain"] for (way, nats), row in rows.items() if nats == NATS[0]}
    own = {"trpo": "a fresh rollout", "sac": "its own gradient"}[algorithm]
    assert gained[own] > 0, "what the algorithm itself follows goes up"
    assert gained[own] > gained["recalled, 2, shuffled"], "and weights in another order do not"
    off = directions.depth[0]
    assert len(off["model"]) == len(off["stay"]) == recall_direction_measure.DEPTH
    assert off["stay"][0] < off["stay"][-1], "the first state back is the nearest"


@pytest.mark.parametrize("algorithm", ["trpo", "sac"])
def test_a_step_is_as_long_as_is_wanted_and_the_other_way_goes_up(algorithm: Any) -> None:
    run = Run(algorithm=algorithm, task="Hopper-v5", arm=Arm(name="none"), seed=0, steps=1)
    model, _ = learner(run)
    face, rng = learner_of(model), np.random.default_rng(0)
    states = rng.normal(size=(300, 11)).astype(np.float32)
    actions = rng.uniform(0.2, 0.8, (300, 3)).astype(np.float32)
    start = torch.nn.utils.parameters_to_vector(face.parameters()).detach().clone()
    step = Step(face, states, rng)

    def loss() -> torch.Tensor:
        return face.losses(states, actions).mean()

    first = float(loss().detach())
    along = step.direction(loss())
    assert torch.equal(start, torch.nn.utils.parameters_to_vector(face.parameters()))
    for nats in (1e-4, 1e-2, 0.3):
        assert step.go(along, nats) == pytest.approx(nats, rel=0.01)
        assert float(loss().detach()) < first
        assert step.go(-along, nats) == pytest.approx(nats, rel=0.01)
        assert float(loss().detach()) > first
    with pytest.raises(ValueError, match="zero or not finite"):
        step.direction(0 * loss())
    with pytest.raises(ValueError, match=r"no step of 0\.1 nats was found"):
        step.go(0 * along, 0.1)


def test_what_sac_raises_rises_along_its_own_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a critic that wants actions of a half."""
    run = Run(algorithm="sac", task="Hopper-v5", arm=Arm(name="none"), seed=0, steps=1)
    model, _ = learner(run)
    directions = KINDS["sac"]("Hopper-v5", [], NATS, 0, RecallTraces())
    directions.init_callback(model)

    def wants(_: Any, action: torch.Tensor) -> tuple[torch.Tensor]:
        return (-100 * (action - 0.5).pow(2).sum(dim=1, keepdim=True),)

    monkeypatch.setattr(model, "critic", wants)
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 11)).astype(np.float32)
    action, _ = model.predict(states, deterministic=True)
    before = directions._judge(states)
    step = Step(directions._face, states, rng)
    step.go(step.direction(-directions._objective(states).mean()), 0.1)
    after, _ = model.predict(states, deterministic=True)
    assert (directions._judge(states) - before).mean() > 0.1 * before.std()
    assert np.abs(after - 0.5).mean() < np.abs(action - 0.5).mean()


def test_a_run_is_kept_once_and_summarised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recall_direction_runs.plan()[1].model_copy(update={"steps": 6_144})
    path = recall_direction_runs.play(run, tmp_path)
    when = path.stat().st_mtime_ns
    assert recall_direction_runs.play(run, tmp_path) == path
    assert path.stat().st_mtime_ns == when, "what is there is not run again"
    other = run.model_copy(update={"divergences": (0.01,)})
    assert other.path(tmp_path) != path

    wanted = ["--algorithms", "trpo", "--tasks", "Hopper-v5", "--steps", "6144", "--gather"]
    recall_direction.main([*wanted, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "results/recall_direction.json").read_text())
    told = found["summary"]["trpo"]["Hopper-v5"]
    rows = found["records"][0]["rows"]
    gains = [r["gain"] for r in rows if r["way"] == "recalled, 2" and r["nats"] == 0.01]
    assert len(gains) == 3, "at every moment"
    way = told["ways"]["recalled, 2"]
    assert way["gain"]["0.01"]["value"] == pytest.approx(np.mean(gains))
    assert [each["value"] for each in way["gain_by_moment"]["0.01"]] == pytest.approx(gains)
    assert f"| recalled, 2 | {1_000 * way['gain']['0.002']['value']:.1f} [" in said
    off = np.mean([each["model"][4] for each in found["records"][0]["depth"]])
    assert f"| trpo Hopper-v5 | 5 | {off:.2f} [" in said
