"""Tabular Q-learning, all seeds of an experiment as one batch: a row is a seed.

The values of B seeds are one array [B, S, A]. Every decision and every update is made for all
rows at once, and a row's course depends on its own seed and its own world alone.
A world that can go back is a world like any other; how much of that the learner is told is the
setting `going_back`.

Source: Watkins and Dayan, Q-learning (Machine Learning 8, 1992).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict, Field

from delegate.backtrack import VectorBacktrack
from delegate.backtrack.random_key import below, draw, mix, unit

_DRAWS = np.uint64(3)
"""random numbers of one decision, whatever it is, so that arms of a comparison share them"""
_STREAM = np.uint64(0x7461627561726C51)
"""keeps a learner's numbers apart from those of a world seeded with the same integer"""


class QLearningSettings(BaseModel):
    """How values are learned and acted on.

    {step_size: 0.5, epsilon: 0.1, discount: 0.99, initial_value: 0.0, going_back: known}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    step_size: float = Field(0.5, gt=0, le=1)
    """how far a value moves towards its target (ratio)"""
    decay: float | None = Field(None, gt=0, le=1)
    """where given, the n-th move of a value is n^-decay of the way, but at least `step_size`;
    for worlds with noise (exponent)"""
    epsilon: float = Field(0.1, ge=0, le=1)
    """probability of a uniformly random action (per decision)"""
    discount: float = Field(0.99, ge=0, le=1)
    """factor per interaction (ratio)"""
    initial_value: float = 0.0
    """value of every action before it is first taken (return)"""
    going_back: Literal["learned", "aside", "known"] = "learned"
    """learned: an action like any other, Q-learning on the widened task;
    aside: chosen like any other, but the world's own actions are valued as if there were none,
    so an ending that could be taken back counts as the ending it is;
    known: likewise, and its value is not learned but computed, because what it does is known: the
    last reward is given back, less the cost, and the state before is there again. It is chosen
    where that is worth more than going on. Random actions are then the world's own and do go on,
    lest a state once thought bad be left for ever unseen; but no ending is confirmed at random"""


@dataclass(frozen=True)
class Price:
    """What undoing the last step pays, apart from where it leads: −refund x its reward − cost."""

    refund: float
    cost: float

    @classmethod
    def of(cls, env: VectorBacktrack) -> Self:
        """Raises ValueError unless `env` offers depth 1 alone."""
        config = env.config
        if config.depths != (1,):
            raise ValueError(
                f"depths {list(config.depths)} have no known value; give depths: [1] or learn it"
            )
        return cls(1.0 if config.gamma is None else config.gamma**-1, config.cost)


class QLearning:
    """The learners of B seeds, over S states and A actions of which the last k go back.

    values: float64 [B, S, A]
    key:    uint64  [B, 2]  random stream: seed, counter
    backtrack_rate: float64 [B], or None. A control: where given, going back is not chosen but
        happens with this probability wherever it is possible; all else is as it was

    seeds: int [B], one a row, from 0 · states, actions: S, A · backtracks: k
    price: of going back, needed by `going_back: known`
    Raises ValueError for numbers that do not fit together.
    """

    def __init__(
        self,
        settings: QLearningSettings,
        seeds: np.ndarray,
        states: int,
        actions: int,
        backtracks: int = 0,
        price: Price | None = None,
    ) -> None:
        seeds = np.asarray(seeds)
        if seeds.ndim != 1 or seeds.dtype.kind not in "iu" or not len(seeds) or seeds.min() < 0:
            raise ValueError("seeds must be one integer a row, 0 to 2^63 - 1")
        if states < 1 or not 0 <= backtracks < actions:
            raise ValueError(
                f"{states} states, {actions} actions of which {backtracks} go back: give at least "
                "one state and one action that does not"
            )
        if settings.going_back == "known" and backtracks and price is None:
            raise ValueError("going_back: known needs the price; give it or use learned")
        self.settings = settings
        self.world_actions = actions - backtracks
        self.values = np.full((len(seeds), states, actions), settings.initial_value)
        self.key = np.zeros((len(seeds), 2), np.uint64)
        self.key[:, 0] = mix(seeds.astype(np.uint64) ^ _STREAM)
        self.backtrack_rate: np.ndarray | None = None
        self._moves: np.ndarray | None = None  # how often each value has moved
        if settings.decay is not None:
            self._moves = np.zeros(self.values.shape, np.int32)
        self._price = price
        self._rows = np.arange(len(seeds))
        self._undone = np.full(len(seeds), -np.inf)  # what undoing the last step is worth, if known
        self._open: np.ndarray | None = None  # the action masks of the last decision

    @classmethod
    def of(
        cls, env: gymnasium.vector.VectorEnv, settings: QLearningSettings, seeds: np.ndarray
    ) -> Self:
        """Learners that fit `env`: integers observed, integers as actions, a seed a row.

        Raises TypeError for other spaces and ValueError for another number of seeds.
        """
        observed, acts = env.single_observation_space, env.single_action_space
        for space, what in ((observed, "observations"), (acts, "actions")):
            if not isinstance(space, Discrete) or space.start != 0:
                raise TypeError(f"{what} {space} do not fit a table; they must be 0 to n - 1")
        if len(seeds) != env.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {env.num_envs} rows; give one a row")
        assert isinstance(observed, Discrete)
        assert isinstance(acts, Discrete)
        backtracks, price = 0, None
        if isinstance(env, VectorBacktrack):
            backtracks = len(env.depths)
            price = Price.of(env) if settings.going_back == "known" else None
        return cls(settings, seeds, int(observed.n), int(acts.n), backtracks, price)

    def act(
        self,
        state: np.ndarray,
        allowed: np.ndarray | None = None,
        held: np.ndarray | None = None,
    ) -> np.ndarray:
        """An ε-greedy action in every row, ties broken at random. int64 [B]

        state: int [B] · allowed: bool [B, A] action masks, None for all
        held: bool [B] the episode has ended unless this decision takes that back
        """
        value = self.values[self._rows, state]
        if allowed is None:
            allowed = np.ones(value.shape, bool)
        self._open = allowed
        coin, pick, chance = self._draw()
        known = self.settings.going_back == "known"
        among = allowed
        if known or self.backtrack_rate is not None:
            among = allowed.copy()
            among[:, self.world_actions :] = False
        value = np.where(among, value, -np.inf)
        best = value.max(axis=1)
        greedy = among & (value == best[:, None])
        explores = unit(coin) < self.settings.epsilon
        held = np.zeros(len(value), bool) if held is None else held
        action = _pick(np.where(explores[:, None], among, greedy), pick)
        back = allowed[:, self.world_actions :]
        if not back.any():
            return action
        if self.backtrack_rate is not None:
            goes_back = unit(chance) < self.backtrack_rate
        elif known:
            goes_back = (self._undone > np.where(held, 0.0, best)) & (held | ~explores)
        else:
            return action
        return np.where(
            goes_back & back.any(axis=1), self.world_actions + _pick(back, pick), action
        )

    def update(
        self,
        state: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        next_state: np.ndarray,
        terminated: np.ndarray,
        allowed: np.ndarray | None = None,
        held: np.ndarray | None = None,
    ) -> None:
        """Move the value of what was done towards reward + discount x the best that can follow.

        state, action, next_state: int [B] · reward: float64 [B]
        terminated: bool [B] nothing follows; what was only truncated is worth what would have
        allowed, held: of the next state, as for `act`; where going back is not valued with the
        world's own actions (aside, known), what is held has ended
        """
        rows, settings = self._rows, self.settings
        if settings.going_back == "learned":
            follows, over = self._best(next_state, allowed), terminated
        else:
            follows = self._best(next_state, allowed, self.world_actions)
            over = terminated if held is None else terminated | held
        old = self.values[rows, state, action]
        target = reward + settings.discount * np.where(over, 0.0, follows)
        self.values[rows, state, action] = old + self._step_size(state, action) * (target - old)
        if self._price is not None:
            worth = settings.discount * self._best(state, self._open, self.world_actions)
            undone = worth - self._price.refund * reward - self._price.cost
            self._undone = np.where(action < self.world_actions, undone, -np.inf)

    def greedy(self, states: np.ndarray) -> np.ndarray:
        """The best of the world's own actions in each of those states, ties all marked.

        This is the final policy: it never goes back.
        states: int [n], those a policy that does not go back is in · returns bool [B, n, A - k]
        """
        value = self.values[:, states, : self.world_actions]
        return value == value.max(axis=2, keepdims=True)

    def _best(
        self, state: np.ndarray, allowed: np.ndarray | None, actions: int | None = None
    ) -> np.ndarray:
        """The highest value among the first `actions` that are allowed. float64 [B]"""
        value = self.values[self._rows, state, :actions]
        if allowed is not None:
            value = np.where(allowed[:, :actions], value, -np.inf)
        return value.max(axis=1)

    def _step_size(self, state: np.ndarray, action: np.ndarray) -> np.ndarray | float:
        settings = self.settings
        if self._moves is None or settings.decay is None:
            return settings.step_size
        self._moves[self._rows, state, action] += 1
        count = self._moves[self._rows, state, action].astype(np.float64)
        return np.maximum(np.power(count, -settings.decay), settings.step_size)

    def _draw(self) -> list[np.ndarray]:
        """The random numbers of one decision, each uint64 [B]."""
        seed, counter = self.key[:, 0], self.key[:, 1]
        drawn = [draw(seed, counter + np.uint64(n)) for n in range(int(_DRAWS))]
        self.key[:, 1] += _DRAWS
        return drawn


@dataclass(frozen=True)
class Decision:
    """One tick of a training run; arrays of length B, and `info` as the world gave it.

    state, action, next_state: int64 · reward: float64 · terminated, truncated, held: bool
    could_go_back: bool, going back was allowed when the action was chosen
    """

    tick: int
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_state: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    held: np.ndarray
    could_go_back: np.ndarray
    info: dict[str, Any]


def train(
    env: gymnasium.vector.VectorEnv,
    learner: QLearning,
    interactions: int,
    watch: Callable[[Decision], None] = lambda decision: None,
    seed: int = 0,
) -> None:
    """Learn from `interactions` decisions in every row; undone steps and backtracks count.

    env: in AutoresetMode.DISABLED, so that no tick is lost to a reset · seed: of its reset
    watch: called after every decision and the update from it
    Raises ValueError for an environment that resets itself.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.DISABLED:
        raise ValueError(
            f"{type(env).__name__} resets itself ({mode}), which costs ticks; "
            "make it with autoreset_mode=AutoresetMode.DISABLED"
        )
    masks: Callable[[], np.ndarray] = getattr(
        env, "action_masks", lambda: np.ones(learner.values.shape[::2], bool)
    )
    nothing = np.zeros(env.num_envs, bool)
    state, _ = env.reset(seed=seed)
    allowed, held = masks(), nothing
    for tick in range(interactions):
        action = learner.act(state, allowed, held)
        could: np.ndarray = np.any(allowed[:, learner.world_actions :], axis=1)
        after, reward, terminated, truncated, info = env.step(action)
        allowed, held = masks(), info.get("held", nothing)
        learner.update(state, action, reward, after, terminated, allowed, held)
        watch(
            Decision(tick, state, action, reward, after, terminated, truncated, held, could, info)
        )
        state, ended = after, terminated | truncated
        if ended.any():
            state, _ = env.reset(options={"reset_mask": ended})
            allowed, held = masks(), held & ~ended


def _pick(among: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """One of the marked, uniformly; 0 where none is. bool [B, n], uint64 [B] · returns int64 [B]"""
    rank = np.cumsum(among, axis=1)
    return (rank > below(bits, rank[:, -1])[:, None]).argmax(axis=1)
