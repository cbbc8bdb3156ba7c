"""What a policy did lately, by trajectory; the best of it; and the states where traces end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from scipy.signal import lfilter

from delegate.recall.model import Transitions
from delegate.recall.stable_baselines.config import RecallConfig, Targets
from delegate.recall.stable_baselines.losses import Learner

NONE_FINISHED = (
    "no trajectory of the buffer is finished; wait for one, or raise buffer_size above the length "
    "of an episode times the number of environments"
)


@dataclass(frozen=True)
class Steps:
    """N steps, one trajectory after the other, the oldest step of each first.

    reward: float64 [N] · done: bool [N], the last step of its trajectory
    terminal: bool [N], and the episode was not truncated there
    """

    transitions: Transitions
    reward: np.ndarray
    done: np.ndarray
    terminal: np.ndarray


class TrajectoryBuffer:
    """The last `capacity` transitions of B environments, and what their trajectories returned.

    A trajectory counts once it is finished; its return is the undiscounted sum of all its rewards,
    also of those that are no longer kept. Memory is taken at once and does not grow.
    """

    def __init__(self, capacity: int, rows: int, states: Any, actions: Any) -> None:
        """states, actions: spaces, Box or Discrete"""
        if capacity < rows:
            raise ValueError(
                f"a buffer of {capacity} transitions cannot hold a step of {rows} environments; "
                "raise buffer_size"
            )
        self.capacity, self.rows = capacity - capacity % rows, rows
        self.steps = 0  # of the environments, ever added
        size = self.capacity
        self._arrays: dict[str, np.ndarray] = {
            "state": _zeros(size, states),
            "action": _zeros(size, actions),
            "next_state": _zeros(size, states),
            "reward": np.zeros(size),
            "done": np.zeros(size, bool),
            "terminal": np.zeros(size, bool),
            "trajectory": np.full(size, -1, np.int64),
        }
        self._begun = rows
        self._open = {"open_trajectory": np.arange(rows, dtype=np.int64), "gained": np.zeros(rows)}
        # of finished trajectories of which some step is kept, by their numbers
        self._returns: dict[int, float] = {}

    def __len__(self) -> int:
        return min(self.steps, self.capacity)

    def add(self, *step: np.ndarray) -> None:
        """One step of every environment, each [B, ...]: state, action, next_state, reward, done
        (bool, the trajectory ends with it), terminal (bool, and it was not truncated)."""
        slots = self.steps % self.capacity + np.arange(self.rows)
        # Steps are forgotten in order, so the last of a trajectory is the end of all of it.
        for number in self._arrays["trajectory"][slots[self._arrays["done"][slots]]].tolist():
            del self._returns[number]
        columns = zip(self._arrays, (*step, self._open["open_trajectory"]), strict=True)
        for name, values in columns:
            self._arrays[name][slots] = values
        self.steps += self.rows
        self._open["gained"] += self._arrays["reward"][slots]
        ended = np.flatnonzero(self._arrays["done"][slots])
        for row in ended.tolist():
            self._returns[int(self._open["open_trajectory"][row])] = float(
                self._open["gained"][row]
            )
        self.begin(ended)

    def begin(self, rows: np.ndarray | None = None) -> None:
        """Those environments, or all, were reset: what is unfinished stays so and never counts."""
        rows = np.arange(self.rows) if rows is None else rows
        self._open["open_trajectory"][rows] = self._begun + np.arange(len(rows))
        self._open["gained"][rows] = 0.0
        self._begun += len(rows)

    @property
    def finished(self) -> int:
        """Trajectories that are finished and of which some step is kept (count)."""
        return len(self._returns)

    @property
    def best_return(self) -> float:
        """The highest return of those that `finished` counts, NaN for none."""
        return max(self._returns.values(), default=float("nan"))

    def best(self, trajectories: float = 1.0) -> Steps:
        """The steps of the best share of the finished trajectories, of equals the newest.

        trajectories: share by return, in (0, 1], at least one
        Raises ValueError when no trajectory is finished yet.
        """
        if not self._returns:
            raise ValueError(NONE_FINISHED)
        numbers, returns = np.array(list(self._returns)), np.array(list(self._returns.values()))
        count = max(1, round(trajectories * len(numbers)))
        chosen = numbers[np.lexsort((-numbers, -returns))[:count]]
        owner = self._arrays["trajectory"]
        index = np.flatnonzero(np.isin(owner[: len(self)], chosen))
        index = index[np.lexsort(((index - self.steps) % self.capacity, owner[index]))]
        more = (self._arrays[name][index] for name in ("reward", "done", "terminal"))
        return Steps(self._transitions(index), *more)

    def latest(self, count: int) -> Transitions:
        """The last so many transitions that are kept, oldest first, of finished trajectories or
        not; whole steps of all environments."""
        count = min(-(-count // self.rows) * self.rows, len(self))
        return self._transitions((self.steps - count + np.arange(count)) % self.capacity)

    def _transitions(self, index: np.ndarray) -> Transitions:
        return Transitions(*(self._arrays[n][index] for n in ("state", "action", "next_state")))

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that can change, as arrays, some of them live; see `load_state_dict`."""
        return {
            **{name: array[: len(self)] for name, array in self._arrays.items()},
            **self._open,
            "counts": np.array([self.steps, self._begun], np.int64),
            "finished": np.array(list(self._returns), np.int64),
            "returns": np.array(list(self._returns.values()), np.float64),
        }

    def check_state_dict(self, saved: dict[str, np.ndarray]) -> None:
        """Raise ValueError for what `state_dict` of such a buffer cannot have given."""
        mine = self.state_dict()
        if differing := mine.keys() ^ saved.keys():
            raise ValueError(
                f"what was remembered differs in {', '.join(sorted(differing))}: it is of another "
                "version; begin with a new RecallTraces"
            )
        sizes = dict.fromkeys(self._arrays, min(int(saved["counts"].flat[0]), self.capacity))
        sizes |= dict.fromkeys(("finished", "returns"), len(saved["finished"]))
        for name, own in mine.items():
            kind, shape = saved[name].dtype, saved[name].shape
            wanted = own.dtype, (sizes.get(name, len(own)), *own.shape[1:])
            if (kind, shape) != wanted:
                raise ValueError(
                    f"{name} is {kind} {shape} in what was remembered, and {wanted[0]} {wanted[1]} "
                    "here; go on with the environments and the buffer_size of then, or begin with "
                    "a new RecallTraces"
                )

    def load_state_dict(self, saved: dict[str, np.ndarray]) -> None:
        """Go on from what `state_dict` gave. Raises what `check_state_dict` raises, changing
        nothing."""
        self.check_state_dict(saved)
        self.steps, self._begun = saved["counts"].tolist()
        for name, array in self._arrays.items():
            array[: len(self)] = saved[name]
        for name, array in self._open.items():
            array[:] = saved[name]
        self._returns = dict(
            zip(saved["finished"].tolist(), saved["returns"].tolist(), strict=True)
        )


def check_states(states: np.ndarray, space: Box | Discrete) -> None:
    """Raise ValueError for what are no states of that space, bounds of a Box aside."""
    shape = space.shape or ()
    good = states.ndim == len(shape) + 1 and states.shape[1:] == shape
    if isinstance(space, Discrete):
        good &= states.dtype.kind in "iu" and bool(
            ((space.start <= states) & (states < space.start + space.n)).all()
        )
    else:
        good &= states.dtype.kind in "iufb" and bool(np.isfinite(states).all())
    if not good:
        wanted = ", ".join(["count", *map(str, shape)])
        raise ValueError(
            f"targets_from: states are {states.dtype} of shape {states.shape}, "
            f"{states.ravel()[:5].tolist()} among them; give finite ones of {space}, [{wanted}]"
        )


def priority(by: str, steps: Steps, learner: Learner) -> np.ndarray:
    """How good it is to enter each next_state, by critic, reward or return. float64 [N], in units
    of the reward or, where the critic has a say, of its value"""
    if by == "reward":
        return steps.reward
    reward = steps.reward / learner.original.reward_scale
    bootstrap_value = np.where(steps.terminal, 0.0, learner.value(steps.transitions.next_state))
    if by == "critic":
        return reward + learner.discount * bootstrap_value
    earned = reward + np.where(steps.done, learner.discount * bootstrap_value, 0.0)
    to_go = np.empty_like(earned)
    for part in np.split(np.arange(len(earned)), np.flatnonzero(steps.done)[:-1] + 1):
        # reward_to_go[t] = earned[t] + discount x reward_to_go[t + 1]
        to_go[part[::-1]] = lfilter([1.0], [1.0, -learner.discount], earned[part[::-1]])
    return to_go


def draw_targets(
    targets: Targets,
    steps: Steps,
    priorities: np.ndarray,
    learner: Learner,
    config: RecallConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Where traces shall end: states [count, ...], and whether an episode ends there, bool
    [count], as far as is remembered (of vectors that are given it never does).

    priorities: float [N], of each next_state · Raises ValueError for what a source may not give.
    """
    count, share, space = config.count, config.targets, learner.original.space
    entered = steps.transitions.next_state
    if isinstance(targets, str):
        best = top(priorities, share)
        better = best[
            priorities[best] > priorities.min()
        ]  # where few were rewarded, no others are targets
        best = better if share < 1 and len(better) else best
        drawn = best[rng.integers(0, len(best), count)]
        return entered[drawn], steps.terminal[drawn]
    if isinstance(targets, np.ndarray):
        states = targets[rng.integers(0, len(targets), count)]
    else:
        states = np.asarray(targets(count, rng))
    check_states(states, space)
    if len(states) != count:
        raise ValueError(f"targets_from gave {len(states)} states; give the {count} asked for")
    states, known = states.astype(entered.dtype), isinstance(space, Discrete)
    return states, np.isin(states, entered[steps.terminal]) if known else np.zeros(count, bool)


def top(priorities: np.ndarray, share: float) -> np.ndarray:
    """The places of the highest share, at least one, best first, of equals the last first.
    int [n]"""
    count = max(1, round(share * len(priorities)))
    return len(priorities) - 1 - np.argsort(-priorities[::-1], kind="stable")[:count]


def _zeros(size: int, space: Box | Discrete) -> np.ndarray:
    """[size, ...], as that space is remembered."""
    return np.zeros((size, *(space.shape or ())), np.int64 if space.shape == () else np.float32)
