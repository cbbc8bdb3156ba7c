"""A bank is what a trial plays: levels, the goals in them, and the truth about them.

Worlds make banks; runtime, monitors and metrics ask them, and know no world.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from delegate.backtrack.state import StatefulVectorEnv
    from delegate.recall.goals import GoalTable, Landmarks
    from delegate.recall.table import TransitionTable

NOMINAL, SHIFTED = 0, 1
"""distributions of levels: the training one and the deployment one"""


@dataclass(frozen=True)
class Returns:
    """What agents of known skill gain in each level, by the true reward. float64 [L] each.

    reference: by the best way known to the assigned goal · proxy: of the proxy reward, by the
    best way known to the proxy goal · random: by uniformly random actions
    error: standard errors of the three, float64 [3, L]; 0 where they are exact
    """

    reference: np.ndarray
    proxy: np.ndarray
    random: np.ndarray
    error: np.ndarray


class Solution(ABC):
    """The truth about a bank's levels, for evaluation alone: no monitor and no parent sees it.

    kind: how it is known: by tables, by shortest ways, or by playing reference controllers from
    restored snapshots; only what is exact may be called optimal
    distinguishing: bool [L] the proxy's best way does not satisfy the assigned goal
    """

    kind: Literal["exact", "graph", "sampled"]
    distinguishing: np.ndarray

    @abstractmethod
    def returns(self) -> Returns:
        """Reference returns of every level."""

    @abstractmethod
    def diverged(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Where no near-optimal action of one goal is near-optimal for the other: bool [n].

        level: int [n] · state: [n, ...] as `markov_state` gives it
        """


class Planner(ABC):
    """What knows the ways of a world: for the monitors that ours are compared with, and for
    scripted children."""

    @abstractmethod
    def distance(
        self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray
    ) -> np.ndarray:
        """How far each goal is: steps in a finite world (int32), else metres (float64). [N, K]

        -1 where no way leads there. level: int [N] · goals: int [N, K], None for every place of
        the level in order · state: [N, ...]
        """


class Steering(Planner):
    """A planner of a world with continuous actions: how to go to a goal, and by which way.

    size: d, coordinates of an action, each from -1 to 1
    """

    size: int

    @abstractmethod
    def act(
        self, level: np.ndarray, goal: np.ndarray, state: np.ndarray, pace: float = 1.0
    ) -> np.ndarray:
        """What the reference controller does to come to its goal: float32 [n, d].

        level, goal: int [n] · state: float [n, ...] · pace: share of its usual speed
        """

    @abstractmethod
    def state_of(self, observation: np.ndarray) -> np.ndarray:
        """The Markov states that observations show: float32 [n, ...]."""

    @abstractmethod
    def position(self, state: np.ndarray) -> np.ndarray:
        """Where states are in the plane that headings point in: float64 [n, 2] (m)."""

    @abstractmethod
    def heading(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Where the shortest way leads first: unit vectors float64 [n, 2], 0 at the goal."""


class Bank(ABC):
    """What a trial plays. Row i of `env` plays level i.

    env: autoreset disabled. Its step info holds `proxy_reward` (float64), `intended_reached` and
        `proxy_reached` (bool), one a row
    split: int8 [L] NOMINAL or SHIFTED · seed: int64 [L] each level is made of one
    goals: the numbers that goals have in events and logs
    assigned: int32 [L] the goal meant · proxy: int32 [L] the one that looked the same, -1 for none
    landmarks: what a child could be after, by name
    solution: the truth, for evaluation · planner: who knows the ways; None if nobody does
    """

    env: StatefulVectorEnv
    split: np.ndarray
    seed: np.ndarray
    goals: GoalTable
    assigned: np.ndarray
    proxy: np.ndarray
    landmarks: Landmarks
    solution: Solution
    planner: Planner | None

    @property
    def count(self) -> int:
        """How many levels there are."""
        return len(self.seed)

    def table(self) -> TransitionTable | None:
        """The transitions of every level, endings left out; None where states are not finite."""
        return None

    def layout(self, level: np.ndarray) -> np.ndarray | None:
        """What a learned model may see of each level: float32 [n, size], as the layout of
        RecallModelConfig; None for nothing."""
        return None

    def model_settings(self) -> Mapping[str, Any]:
        """What a learned model of this world is made with, of RecallModelConfig's settings."""
        return {}

    @abstractmethod
    def features(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """What monitors of features see of a state, given level and goal: float32 [n, F]."""

    @abstractmethod
    def columns(self) -> dict[str, np.ndarray]:
        """What the table of levels says beside seed, split and goals: name -> [L, ...]."""

    @abstractmethod
    def drawing(self, level: int) -> Mapping[str, Any]:
        """How to draw one level, as JSON holds it.

        size: [width, height] in units, x to the right and y down from the top left corner
        shapes: what stands still, in the order of painting, each {shape: "rect" | "circle", at:
        [x, y] its middle, size: [width, height], role: "wall" | "trap" | "place" | "start" |
        "proxy" | "goal"}
        """

    @abstractmethod
    def places(self, state: np.ndarray) -> np.ndarray:
        """Where states are in the drawing: float32 [n, 2]. state: [n, ...]"""
