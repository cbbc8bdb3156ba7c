"""What the study of recalled traces on MuJoCo runs."""

from __future__ import annotations

from recall_mujoco_runs import Arm, Run

STEPS = {"trpo": 1_000_000, "sac": 100_000}
TASKS = {
    "trpo": ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "Ant-v5"),
    "sac": ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"),
}
SEEDS = {"trpo": (0, 1, 2, 3, 4), "sac": (0, 1, 2)}
PLAIN = Arm(name="none")


def plain(algorithm: str) -> list[Run]:
    """The algorithm alone, seed by seed, so that whatever is finished can be compared."""
    return [
        Run(algorithm=algorithm, task=task, arm=PLAIN, seed=seed, steps=STEPS[algorithm])
        for seed in SEEDS[algorithm]
        for task in TASKS[algorithm]
    ]
