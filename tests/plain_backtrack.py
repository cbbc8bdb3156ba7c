"""The backtrack action for one row as anyone would first write it: lists, loops, no batching."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

import numpy as np

from delegate.backtrack.config import BacktrackConfig


class PlainWorld(Protocol):
    """One row of a world: `save` gives all but the random stream and what cannot be undone."""

    holes: int

    def reset(self) -> None: ...
    def step(self, action: Any) -> tuple[float, bool, bool]: ...
    def save(self) -> Any: ...
    def load(self, saved: Any) -> None: ...
    def observe(self) -> Any: ...


class PlainBacktrack:
    """What VectorBacktrack is held against, row by row. Actions: 0..2 the world's, 3.. go back."""

    def __init__(self, world: Any, config: BacktrackConfig, time_limit: int | None) -> None:
        self.world, self.config, self.time_limit = world, config, time_limit
        self.ledger: Counter[str] = Counter()

    def reset(self) -> None:
        self.world.reset()
        self.path: list[dict[str, Any]] = []
        self.forgotten = 0
        self.clock, self.budget_left, self.since = 0, self.config.budget, 0
        self.held = self.terminated = self.truncated = False
        self.shown: dict[str, Any] = {}

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated

    def refusal(self, depth: int) -> str:
        if self.budget_left == 0:
            return "budget"
        if depth > len(self.path):
            return "path"
        return "horizon" if len(self.path) - depth < self.forgotten else ""

    def possible(self) -> list[bool]:
        return [not self.ended and not self.refusal(depth) for depth in self.config.depths]

    def masks(self) -> list[bool]:
        return [True] * 3 + self.possible()

    def read(self, action: Any) -> tuple[Any, int | None]:
        """The world's action, and which depth is asked for."""
        return (action, None) if action < 3 else (None, int(action) - 3)

    def step(self, action: Any) -> dict[str, Any]:
        out = {"reward": 0.0, "backtracked": False, "undone_steps": 0, "refund": 0.0}
        out |= {"refusal": "", "do_undo_loop": False, "holes_kept": 0, "undone_reward": 0.0}
        if self.ended:
            return out
        ended = truncated = False
        world_action, choice = self.read(action)
        refusal = "" if choice is None else self.refusal(self.config.depths[choice])
        out["refusal"] = refusal
        if choice is not None and not refusal:
            self.go_back(choice, out)
        elif self.held:
            self.terminated = True
            self.ledger["idled"] += 1
        elif choice is not None:
            self.ledger["idled"] += 1
        else:
            entry = {"world": self.world.save(), "action": world_action, "tick": self.clock}
            holes = self.world.holes
            out["reward"], ended, truncated = self.world.step(world_action)
            dug = self.world.holes - holes
            self.path.append(entry | {"reward": out["reward"], "holes": dug})
            self.forgotten = max(self.forgotten, len(self.path) - self.config.horizon)
            self.since += 1
            self.shown = {}
            self.ledger["committed"] += 1
        if refusal:
            out["reward"] -= self.config.refused_cost
        self.clock += 1
        if self.time_limit is not None and self.clock >= self.time_limit:
            truncated = True
        self.truncated |= truncated
        self.held = ended and any(self.possible())
        self.terminated |= ended and not self.held
        return out

    def go_back(self, choice: int, out: dict[str, Any]) -> None:
        depth = self.config.depths[choice]
        undone = self.path[-depth:]
        gamma = self.config.gamma or 1.0
        for entry in undone:
            out["undone_reward"] += entry["reward"]
            out["refund"] -= entry["reward"] * gamma ** (entry["tick"] - self.clock)
        out["reward"] = out["refund"] - self.config.cost
        out |= {"backtracked": True, "undone_steps": depth, "do_undo_loop": depth == self.since}
        out["holes_kept"] = sum(entry["holes"] for entry in undone)
        self.shown = {"depth": choice + 1, "action": undone[0]["action"]}
        self.shown["origin"] = self.world.observe()
        self.world.load(undone[0]["world"])
        self.path = self.path[:-depth]
        self.budget_left -= 1
        self.since = 0
        self.ledger["restores"] += 1
        self.ledger["committed"] -= depth
        self.ledger["undone"] += depth
        self.ledger["effects"] += out["holes_kept"]

    def observation(self) -> Any:
        """The mixed-radix integer: each digit with its radix, lowest first."""
        size = self.world.size
        digits = {
            "flag": (int(bool(self.shown)), 2),
            "depth": (self.shown.get("depth", 0), len(self.config.depths) + 1),
            "action": (self.shown.get("action", -1) + 1, 4),
            "origin": (self.shown.get("origin", self.world.observe()), size),
            "budget": (self.budget_left, self.config.budget + 1),
            "held": (int(self.held), 2),
        }
        code, weight = self.world.observe(), size
        for part in self.config.observe:
            digit, radix = digits[part]
            code += digit * weight
            weight *= radix
        return code


class PlainBoxBacktrack(PlainBacktrack):
    """The same for actions of d numbers and a last one that goes back, and vector observations."""

    def read(self, action: Any) -> tuple[Any, int | None]:
        last, threshold = float(action[-1]), self.config.threshold
        if last <= threshold:
            return action[:-1], None
        bands = len(self.config.depths)
        above = (last - threshold) / (1 - threshold)
        return None, next(j for j in range(bands) if above < (j + 1) / bands or j == bands - 1)

    def observation(self) -> Any:
        """The numbers one after another."""
        parts = {
            "flag": [float(bool(self.shown))],
            "depth": [float(self.shown.get("depth", 0) == j + 1) for j in range(self.bands)],
            "action": self.shown.get("action", [0.0] * self.world.action_size),
            "origin": self.shown.get("origin", self.world.observe()),
            "budget": [self.budget_left / max(self.config.budget, 1)],
            "held": [float(self.held)],
        }
        shown = [self.world.observe(), *(parts[part] for part in self.config.observe)]
        return np.concatenate([np.asarray(part, np.float64) for part in shown])

    @property
    def bands(self) -> int:
        return len(self.config.depths)
