"""Goals: what stands for them in states, and those that have a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GoalTable:
    """Goals as numbers; each stands for a weighted set of example states that satisfy it.

    Goal g's examples are the rows first[g] to first[g + 1] of `state`. In a finite world of S
    states the goals 0 to S - 1 are the states themselves, so that a place is its own number.

    first: int64 [G + 1] · state: int32 [M], or float32 [M, d] · weight: float64 [M], summing to
    one for each goal · scale: float32 [d] for float states: a state is at a goal where, for one
    of its examples, |(state - example) / scale| is at most 1; inf for what does not count
    Raises ValueError where shapes differ or a goal has no example.
    """

    first: np.ndarray
    state: np.ndarray
    weight: np.ndarray
    scale: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.state) != len(self.weight) or self.first[-1] != len(self.state):
            raise ValueError(
                f"goals: {len(self.state)} states, {len(self.weight)} weights and a last place of "
                f"{int(self.first[-1])}; give one weight a state, and every state a goal"
            )
        if (np.diff(self.first) < 1).any():
            empty = int((np.diff(self.first) < 1).argmax())
            raise ValueError(f"goals: goal {empty} has no example state; give one or more")
        if (self.state.ndim == 2) != (self.scale is not None):
            raise ValueError("goals: scale belongs to float states [M, d], and to them alone")

    @classmethod
    def of_states(cls, state: np.ndarray, scale: np.ndarray | None = None) -> GoalTable:
        """Goals of one state each. state: int [G], or float [G, d] with a scale [d]"""
        count = len(state)
        kind = np.int32 if scale is None else np.float32
        return cls(np.arange(count + 1), np.asarray(state, kind), np.ones(count), scale)

    @property
    def count(self) -> int:
        """How many goals there are."""
        return len(self.first) - 1

    def examples(self, goal: int) -> tuple[np.ndarray, np.ndarray]:
        """The example states of one goal and their weights: [m, ...], float64 [m]."""
        part = slice(int(self.first[goal]), int(self.first[goal + 1]))
        return self.state[part], self.weight[part]

    def reached(self, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Whether each state satisfies its goal: bool [n]. goal: int [n] · state: [n, ...]"""
        if self.scale is None and self.count == len(self.state):  # one state each: no search
            return (goal >= 0) & (self.state[goal] == state)
        sizes = np.diff(self.first)
        if self.scale is not None and (sizes == sizes[0]).all():
            example = self.state.reshape(self.count, sizes[0], -1)[np.maximum(goal, 0)]
            away = (state[:, None] - example) / self.scale
            return (goal >= 0) & (np.linalg.norm(away, axis=-1) <= 1).any(1)
        there = np.zeros(len(goal), bool)
        for number in np.unique(goal[goal >= 0]).tolist():
            of, (example, _) = goal == number, self.examples(number)
            if self.scale is None:
                there[of] = np.isin(state[of], example)
            else:
                away = (state[of][:, None] - example) / self.scale
                there[of] = (np.linalg.norm(away, axis=-1) <= 1).any(1)
        return there

    def alike(self) -> np.ndarray:
        """Which goals an example of another one satisfies, either way round: bool [G, G]."""
        of = np.repeat(np.arange(self.count), np.diff(self.first))
        every = np.arange(self.count)
        found = np.zeros((self.count, self.count), bool)
        for goal in range(self.count):
            found[goal] = (
                np.bincount(of, self.reached(np.full(len(of), goal), self.state), self.count) > 0
            )
        return found | found.T | (every[:, None] == every)


@dataclass(frozen=True)
class Landmarks:
    """What a child could be after, by name, in each level of a bank.

    names: M of them, the same in every level
    goal: int32 [L, M] the goal each stands for, -1 where a level has none. Two landmarks may be
        one goal: the cheese lies in the corner
    places: bool [L, G] every goal that somebody could be after there, named or not
    Raises ValueError where shapes differ or a landmark is no place.
    """

    names: tuple[str, ...]
    goal: np.ndarray
    places: np.ndarray

    def __post_init__(self) -> None:
        wanted = (len(self.places), len(self.names))
        if self.places.ndim != 2 or self.goal.shape != wanted:
            raise ValueError(
                f"landmarks: goal has shape {self.goal.shape} beside {len(self.names)} names and "
                f"places {self.places.shape}; give [levels, names] and [levels, states]"
            )
        level, landmark = np.nonzero(self.goal >= 0)
        astray = ~self.places[level, self.goal[level, landmark]]
        if astray.any():
            first = int(astray.argmax())
            raise ValueError(
                f"landmarks: {self.names[landmark[first]]} of level {int(level[first])} is no "
                "place that can be reached; give -1 where a level has none"
            )
