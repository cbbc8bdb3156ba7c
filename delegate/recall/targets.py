"""Where recalled traces end: states worth reaching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from gymnasium.spaces import Box, Discrete

from delegate.recall.trajectories import Steps

Value = Callable[[np.ndarray], np.ndarray]
"""the critic: states [N, ...] -> float64 [N]"""
GoalSource = Callable[[int, np.random.Generator], np.ndarray]
"""(count, rng) -> states [count, ...]; a Goal GAN with its decoder is one"""
Targets = Literal["critic", "reward", "return", "advantage"] | np.ndarray | GoalSource
"""critic: the states that are worth most to enter, by the reward and the critic · reward: those
entered with the highest reward ·
return: those after which most was earned, as it turned out · advantage: those entered by steps
after which more was earned than the critic expected before them · an array of states, or a
source"""
BY_WORTH = ("critic", "reward", "return", "advantage")


@dataclass(frozen=True)
class Ends:
    """Where N traces end.

    states: [N, ...] · reward: float64 [N], for entering them · terminal: bool [N], the episode
    ends there · place: int [N], of the remembered step that entered it, −1 for none
    """

    states: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    place: np.ndarray

    def beyond(self, value: Value) -> np.ndarray:
        """What the critic expects after them. float64 [N]"""
        return np.where(self.terminal, 0.0, value(self.states))

    def entering(self, value: Value, discount: float, unit: float) -> np.ndarray:
        """What it expects of entering them, in its unit. float64 [N]"""
        return self.reward / unit + discount * self.beyond(value)


def entered(steps: Steps, place: np.ndarray | None = None) -> Ends:
    """The states that those steps, or all, entered."""
    place = np.arange(len(steps)) if place is None else place
    states = steps.transitions.next_state[place]
    return Ends(states, steps.reward[place], steps.terminal[place], place)


def check_targets(targets: object) -> None:
    """Raise ValueError for another name or for no state, TypeError for what is none of Targets."""
    names = f"{', '.join(BY_WORTH)}, states or a function (count, rng) -> states"
    if isinstance(targets, str):
        if targets not in BY_WORTH:
            raise ValueError(f'targets_from is "{targets}"; give one of {names}')
    elif isinstance(targets, np.ndarray):
        if targets.size == 0:
            raise ValueError(f"targets_from has no state, shape {targets.shape}; give some")
    elif not callable(targets):
        raise TypeError(f"targets_from is a {type(targets).__name__}; give one of {names}")


def check_states(states: np.ndarray, space: Box | Discrete) -> None:
    """Raise ValueError for what are no states of that space, bounds of a Box aside."""
    shape = space.shape or ()
    if states.shape[1:] != shape or states.ndim != len(shape) + 1:
        wanted = ", ".join(["count", *map(str, shape)])
        raise ValueError(
            f"targets_from: states have shape {states.shape}; give [{wanted}], as observations are"
        )
    if isinstance(space, Discrete):
        first, after = int(space.start), int(space.start + space.n)
        known = states.dtype.kind in "iu" and ((first <= states) & (states < after)).all()
        if not known:
            raise ValueError(
                f"targets_from: states are {states.dtype}, {np.unique(states)[:5].tolist()} among "
                f"them; give integers from {first} to {after - 1}, as observations are"
            )
    elif states.dtype.kind == "f" and not np.isfinite(states).all():
        raise ValueError("targets_from: states are not finite; leave such rows out")


def given(states: np.ndarray, steps: Steps, space: Box | Discrete) -> Ends:
    """States that were given. A Discrete one counts as entered by the last step that did enter it;
    of others the reward is the mean of what is remembered, and they are not terminal.

    Raises what `check_states` raises.
    """
    seen = steps.transitions.next_state
    check_states(states, space)
    states, place = states.astype(seen.dtype), np.full(len(states), -1)
    if seen.dtype.kind == "i":
        known, last = np.unique(seen[::-1], return_index=True)
        at = np.minimum(np.searchsorted(known, states), len(known) - 1)
        place = np.where(known[at] == states, len(seen) - 1 - last[at], -1)
    found = place >= 0
    reward = np.where(found, steps.reward[place], steps.reward.mean())
    return Ends(states, reward, found & steps.terminal[place], place)


def worth(
    targets: str, steps: Steps, value: Value, discount: float, unit: float = 1.0
) -> np.ndarray:
    """How much each state entered is worth as a target. float64 [N]

    unit: of the critic, in rewards: another than 1 where it learned from normalised ones
    """
    if targets == "critic":
        return entered(steps).entering(value, discount, unit)
    if targets == "advantage":
        return steps.to_go / unit - value(steps.transitions.state)
    return steps.reward if targets == "reward" else steps.to_go


def choose(
    targets: Targets,
    steps: Steps,
    ranked: np.ndarray,
    top: float,
    count: int,
    rng: np.random.Generator,
    space: Box | Discrete,
) -> Ends:
    """Where `count` traces shall end.

    ranked: float [N], the worth of each remembered state; of use where targets are among them
    top: share of the most worthy · space: of states

    Raises ValueError where a source gives another count, or no states.
    """
    if callable(targets):
        ends = given(np.asarray(targets(count, rng)), steps, space)
        if len(ends.states) != count:
            raise ValueError(
                f"targets_from gave {len(ends.states)} states; give the {count} asked for"
            )
        return ends
    if isinstance(targets, np.ndarray):
        return given(targets[rng.integers(0, len(targets), count)], steps, space)
    best = worthy(ranked, top)
    return entered(steps, best[rng.integers(0, len(best), count)])


def worthy(ranked: np.ndarray, share: float) -> np.ndarray:
    """The places of the highest share, best first, but of a part none that is worth the least:
    where few were rewarded, the others are no targets. int [n]"""
    best = most(ranked, share)
    better = best[ranked[best] > ranked.min()]
    return better if share < 1 and len(better) else best


def most(ranked: np.ndarray, share: float) -> np.ndarray:
    """The places of the highest share, at least one, best first, of equals the last first.
    int [n]"""
    count = max(1, round(share * len(ranked)))
    return len(ranked) - 1 - np.argsort(-ranked[::-1], kind="stable")[:count]
