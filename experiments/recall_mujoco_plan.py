"""What the study of recalled traces on MuJoCo runs."""

from __future__ import annotations

from functools import partial

from recall_mujoco_runs import Arm, Run

STEPS = {"trpo": 1_000_000, "sac": 100_000}
TASKS = {
    "trpo": ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "Ant-v5"),
    "sac": ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"),
}
SEEDS = {"trpo": (0, 1, 2, 3, 4), "sac": (0, 1, 2)}
PLAIN = Arm(name="none")
TUNING_SEEDS = (1000, 1001, 1002)
TUNING_STEPS = 200_000
NETWORKS = {"learn_action_variance": True, "state_variance_from_input": True}


def plain(algorithm: str) -> list[Run]:
    """The algorithm alone, seed by seed, so that whatever is finished can be compared."""
    return [
        Run(algorithm=algorithm, task=task, arm=PLAIN, seed=seed, steps=STEPS[algorithm])
        for seed in SEEDS[algorithm]
        for task in TASKS[algorithm]
    ]


def recall(name: str, **settings: object) -> Arm:
    """Recalled traces from a learned model with those settings."""
    return Arm(name=name, recall=settings, networks=NETWORKS)


def tuning() -> list[Run]:
    """The search for TRPO: which targets, how weighted, how strongly."""
    stepped = {"imitation_updates": 30, "learning_rate": 3e-4}
    good = {"targets_from": "advantage", "trajectories": 1.0, "targets": 0.5}
    arms = (
        PLAIN,
        recall("paper"),
        recall("advantage-2", **good, **stepped, max_divergence=0.002),
        recall("advantage-10", **good, **stepped, max_divergence=0.01),
        recall(
            "best-advantage-2", **{**good, "trajectories": 0.2}, **stepped, max_divergence=0.002
        ),
        recall("gain-2", weighting="gain", **stepped, max_divergence=0.002),
        recall("advantage-gain-5", **good, weighting="gain", **stepped, max_divergence=0.005),
        recall("advantage-short-5", **good, **stepped, max_divergence=0.005, length=5, count=256),
        recall("advantage-recent-5", **good, **stepped, max_divergence=0.005, buffer_size=10_240),
    )
    return [
        Run(algorithm="trpo", task=task, arm=arm, seed=seed, steps=TUNING_STEPS)
        for seed in TUNING_SEEDS
        for task in ("Hopper-v5", "HalfCheetah-v5")
        for arm in arms
    ]


PLANS = {"trpo": partial(plain, "trpo"), "sac": partial(plain, "sac"), "tune": tuning}
