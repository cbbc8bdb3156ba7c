"""Which environments can be restored exactly: what `delegate certify` says of some.

python -m experiments.certify          # minutes; writes experiments/results/certify.json
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from delegate import store
from delegate.backtrack import StatefulVectorEnv
from delegate.envs import make
from delegate.files import write_whole
from delegate.run.certificate import certify
from experiments.study.records import EXPERIMENTS, as_text

NAMES = (
    "Corner",
    "Hopper-v5",
    "CartPole-v1",
    "FrozenLake-v1",
    "gymnasium.envs.mujoco:Humanoid-v5",
    "gymnasium_robotics:PointMaze_UMaze-v3",
    "gymnasium_robotics:AntMaze_UMaze-v5",
    "minigrid:MiniGrid-DoorKey-8x8-v0",
    "ale_py:ALE/Breakout-v5",
    "LunarLander-v3",
    "CarRacing-v3",
    "experiments.certify.__main__:forgetful",
)
"""ours first, then Gymnasium's and other packages' (the extra `test` brings those), and a recipe
that is wrong"""


def forgetful() -> StatefulVectorEnv:
    """Corner, but that its snapshots leave out how long an episode has run."""
    env: Any = make("Corner", 3, max_steps=20)
    whole = env.state_arrays
    env.state_arrays = lambda: {name: a for name, a in whole().items() if name != "clock"}
    return env


def main() -> None:
    """Certify, keep, print."""
    found = [certify(name, allow_code=True) for name in NAMES]
    document = {"commit": store.commit(), "certificates": [asdict(each) for each in found]}
    path = EXPERIMENTS / "results" / "certify.json"
    write_whole(path, f"{as_text(document)}\n".encode())
    print("| environment | verdict | restored by | steps, resets, rows | lost | reason |")
    print("|---|---|---|---|---|---|")
    for each in found:
        replayed = f"{each.steps}, {each.resets}, {each.rows}"
        lost = each.field or ""
        if each.step is not None:
            lost += f", from step {each.step}"
        cells = (each.env, each.verdict, each.codec or "", replayed, lost, each.reason or "")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
