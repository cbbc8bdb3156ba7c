"""What a policy did lately, by trajectory, and the best of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.signal import lfilter

from delegate.recall.transitions import Transitions

NONE_OVER = (
    "no trajectory of the buffer is over; wait for one, or raise buffer_size above the length of "
    "an episode times the number of environments"
)


@dataclass(frozen=True)
class Steps:
    """N steps, one trajectory after the other, the oldest step of each first.

    reward, to_go: float64 [N], of the step, and discounted from it on to the end (and what was
    expected beyond the end of a trajectory that was cut short)
    terminal: bool [N], the state entered ends the episode
    last: bool [N], of its trajectory
    """

    transitions: Transitions
    reward: np.ndarray
    to_go: np.ndarray
    terminal: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)

    def runs(self, length: int) -> np.ndarray:
        """Every `length` steps in a row of one trajectory, by their places. int [n, length],
        oldest step first"""
        first = np.arange(max(0, len(self) - length + 1))
        first = first[self.trajectory[first] == self.trajectory[first + length - 1]]
        return first[:, None] + np.arange(length)

    @cached_property
    def trajectory(self) -> np.ndarray:
        """Its number, from 0. int [N]"""
        return np.cumsum(self.last) - self.last


class TrajectoryBuffer:
    """The last `capacity` transitions of B environments, and what their trajectories returned.

    A trajectory counts once it is over; its return is the undiscounted sum of all its rewards,
    also of those that are no longer kept. Memory is taken at once and does not grow.
    """

    def __init__(
        self, capacity: int, rows: int, state: np.ndarray, action: np.ndarray, discount: float
    ) -> None:
        """state, action: one example each, whose shapes and types matter · discount: of `to_go`"""
        if capacity < rows:
            raise ValueError(
                f"a buffer of {capacity} transitions cannot hold a step of {rows} environments; "
                "raise buffer_size"
            )
        self.capacity, self.rows, self.discount = capacity - capacity % rows, rows, discount
        size = self.capacity
        self._arrays: dict[str, np.ndarray] = {
            "state": np.zeros((size, *state.shape), state.dtype),
            "action": np.zeros((size, *action.shape), action.dtype),
            "next_state": np.zeros((size, *state.shape), state.dtype),
            "reward": np.zeros(size),
            "terminal": np.zeros(size, bool),
            "trajectory": np.full(size, -1, np.int64),
            "to_go": np.full(size, np.nan),
        }
        self._open = {
            "number": np.arange(rows, dtype=np.int64),
            "gained": np.zeros(rows),
            "length": np.zeros(rows, np.int64),
        }
        self._returns: dict[int, float] = {}
        # steps added, trajectories begun, returns left when they were last gone through
        self._counts = np.array([0, rows, 0], np.int64)

    def __len__(self) -> int:
        return min(int(self._counts[0]) * self.rows, self.capacity)

    def add(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        reward: np.ndarray,
        over: np.ndarray,
        cut: np.ndarray | None = None,
        beyond: np.ndarray | None = None,
    ) -> None:
        """One step of every environment. All [B, ...]; over: bool, the trajectory ends with it.

        cut: bool, it was cut short, and its last state is not terminal (False)
        beyond: float, what it would then still have earned (discounted from its last state on);
        counts in `to_go` and not in its return
        """
        first = int(self._counts[0]) * self.rows % self.capacity
        slots = np.arange(first, first + self.rows)
        values = {
            "state": state,
            "action": action,
            "next_state": next_state,
            "reward": reward,
            "terminal": over if cut is None else over & ~cut,
            "trajectory": self._open["number"],
            "to_go": np.nan,
        }
        for name, value in values.items():
            self._arrays[name][slots] = value
        self._counts[0] += 1
        self._open["gained"] += reward
        self._open["length"] += 1
        for row in np.flatnonzero(over).tolist():
            self._finish(row, 0.0 if beyond is None else float(beyond[row]))

    def begin(self) -> None:
        """Every environment was reset: what was unfinished stays so and never counts."""
        for row in range(self.rows):
            self._next_trajectory(row)

    def best(self, trajectories: float = 1.0) -> Steps:
        """The steps of the best share of the finished trajectories.

        trajectories: share by return, in (0, 1], at least one
        Raises ValueError when no trajectory is over yet.
        """
        owner, done = self._owners()
        if not done:
            raise ValueError(NONE_OVER)
        returns = np.array([self._returns[number] for number in done])
        count = max(1, round(trajectories * len(done)))
        # Of equals the newest: of what the policy did long ago it does little now.
        chosen = np.array(done)[np.lexsort((-np.array(done), -returns))[:count]]
        index = np.flatnonzero(np.isin(owner, chosen))
        index = index[np.lexsort((-self._age(index), owner[index]))]
        reward, to_go, terminal = (
            self._arrays[name][index] for name in ("reward", "to_go", "terminal")
        )
        last = np.append(np.diff(owner[index]) != 0, True)
        return Steps(self._transitions(index), reward, to_go, terminal, last)

    def latest(self, count: int) -> Transitions:
        """The last so many transitions that are kept, finished trajectory or not."""
        recent = self._age(np.arange(len(self))) < -(-count // self.rows)
        return self._transitions(np.flatnonzero(recent))

    @property
    def steps(self) -> int:
        """Steps of environments ever added (count)."""
        return int(self._counts[0]) * self.rows

    @property
    def best_return(self) -> float:
        """The highest return of those that `finished` counts, NaN for none."""
        return max((self._returns[n] for n in self._owners()[1]), default=float("nan"))

    @property
    def finished(self) -> int:
        """Trajectories that are over and of which some step is still kept (count)."""
        return len(self._owners()[1])

    def check_source(
        self, rows: int, state: np.ndarray, action: np.ndarray, discount: float
    ) -> None:
        """Raise ValueError where what is to come is not like what is here; see `__init__`."""
        kept = {name: self._arrays[name] for name in ("state", "action")}
        mine = (self.rows, *(array.shape[1:] for array in kept.values()), self.discount)
        other = (rows, state.shape, action.shape, discount)
        named = ("environments", "shape of states", "shape of actions", "discount")
        for name, before, now in zip(named, mine, other, strict=True):
            if before != now:
                raise ValueError(
                    f"{name}: {before} in what is remembered, and {now} now; begin with a new "
                    "RecallTraces"
                )

    def state_arrays(self) -> dict[str, np.ndarray]:
        """All that can change, as arrays; see `load`."""
        return {
            **{name: array[: len(self)] for name, array in self._arrays.items()},
            **self._open,
            "counts": self._counts,
            "discount": np.array(self.discount),
            "finished": np.array(list(self._returns), np.int64),
            "returns": np.array(list(self._returns.values())),
        }

    def check(self, arrays: dict[str, np.ndarray]) -> None:
        """Raise ValueError for what `state_arrays` of such a buffer cannot have given."""
        mine = self.state_arrays()
        if differing := mine.keys() ^ arrays.keys():
            raise ValueError(
                f"saved buffer differs in {', '.join(sorted(differing))}: it is of another "
                "version; start anew"
            )
        if arrays["discount"] != self.discount:
            raise ValueError(
                f"saved buffer: discount is {arrays['discount']}, and here {self.discount}; resume "
                "with the gamma it was saved under"
            )
        added = int(arrays["counts"].flat[0]) * self.rows
        counts = {name: min(added, self.capacity) for name in self._arrays}
        counts |= {name: len(arrays["finished"]) for name in ("finished", "returns")}
        for name in mine:
            rows, shape = counts.get(name), mine[name].shape
            wanted = shape if rows is None else (rows, *shape[1:])
            if arrays[name].shape != wanted:
                raise ValueError(
                    f"saved buffer: {name} has shape {arrays[name].shape}, which does not fit; "
                    "resume with the environment and the buffer_size it was saved under"
                )

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `state_arrays` gave; raises what `check` raises, changing nothing."""
        self.check(arrays)
        count = len(arrays["reward"])
        for name in self._arrays:
            self._arrays[name][:count] = arrays[name]
        for name in self._open:
            self._open[name][:] = arrays[name]
        self._counts[:] = arrays["counts"]
        pairs = zip(arrays["finished"].tolist(), arrays["returns"].tolist(), strict=True)
        self._returns = dict(pairs)

    def _owners(self) -> tuple[np.ndarray, list[int]]:
        """The trajectory of each step that is kept, and those that are over."""
        owner = self._arrays["trajectory"][: len(self)]
        there = np.unique(owner).tolist()
        return owner, [number for number in there if number in self._returns]

    def _transitions(self, index: np.ndarray) -> Transitions:
        return Transitions(*(self._arrays[name][index] for name in _STEP))

    def _finish(self, row: int, beyond: float) -> None:
        number = int(self._open["number"][row])
        self._returns[number] = float(self._open["gained"][row])
        slots, kept = self.capacity // self.rows, int(self._open["length"][row])
        newest_first = int(self._counts[0]) - 1 - np.arange(min(kept, slots))
        index = newest_first % slots * self.rows + row
        # to_go[k] = reward[k] + discount x to_go of the step after it
        earned = self._arrays["reward"][index]
        earned[0] += self.discount * beyond
        self._arrays["to_go"][index] = lfilter([1.0], [1.0, -self.discount], earned)
        self._next_trajectory(row)
        if len(self._returns) > 2 * self._counts[2] + self.rows:  # now and then: it takes a while
            there = set(np.unique(self._arrays["trajectory"]).tolist())
            self._returns = {n: value for n, value in self._returns.items() if n in there}
            self._counts[2] = len(self._returns)

    def _next_trajectory(self, row: int) -> None:
        self._open["gained"][row] = 0.0
        self._open["length"][row] = 0
        self._open["number"][row] = self._counts[1]
        self._counts[1] += 1

    def _age(self, index: np.ndarray) -> np.ndarray:
        """Steps since those slots were written. int [n]"""
        last = (int(self._counts[0]) - 1) * self.rows % self.capacity // self.rows
        return (last - index // self.rows) % (self.capacity // self.rows)


_STEP = ("state", "action", "next_state")
