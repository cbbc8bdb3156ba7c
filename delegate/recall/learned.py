"""Models learned from transitions: backwards, with random actions for comparison, and forwards."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, flatdim
from torch import Tensor, nn

from delegate.recall.config import RecallModelConfig
from delegate.recall.model import (
    Array,
    BacktrackingModel,
    Rng,
    Traces,
    Transitions,
    check_not_negative,
    checked_columns,
    checked_space,
    taken,
)
from delegate.recall.saving import Saveable, adam, training_state
from delegate.recall.variables import LOG_STD, Normaliser, action_variable, state_variable
from delegate.settings import checked

_OVERFLOW = 1e9
"""nats above which a step would spoil the moments of the optimizer, or the networks"""


class TransitionModel(Saveable):
    """A model of one state of a transition given the other and the action.

    Two networks, as in Recall Traces (arXiv 1804.00379): one says what action was taken, seeing
    the known state, the anchor (tanh); one what the other state is, seeing the action too (ReLU).
    Box states change by a mixture of Gaussians, Box actions are Gaussian, Discrete states and
    actions categorical. Goals, layouts and members of an ensemble are those of the settings.

    state_space, action_space: Box of one dimension, or Discrete from 0
    config: settings; `settings` replaces single ones
    seed: of the first weights, and of everything drawn where no rng is given
    Raises TypeError for another space, ValueError for settings that do not fit.
    """

    _learns_actions: ClassVar[bool] = True

    def __init__(
        self,
        state_space: gymnasium.Space,
        action_space: gymnasium.Space,
        config: RecallModelConfig | None = None,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.state_space = checked_space("state_space", state_space)
        self.action_space = checked_space("action_space", action_space)
        settings = {**({} if config is None else config.model_dump()), **settings}
        self.config = config = checked(type(self).__name__, RecallModelConfig, settings)
        self.device = torch.device(device)
        self._rng = np.random.default_rng(seed)
        self._state = state_variable(self.state_space, config)
        self._action = action_variable(self.action_space, config)
        self._goal = Normaliser(config.goal_size)
        self._context = self._state.width + config.goal_size + config.layout_size
        how = config.hidden, torch.Generator().manual_seed(int(self._rng.integers(2**63)))
        self._state.build(config.members, self._context + self._action.width, nn.ReLU, *how)
        if self._learns_actions:
            self._action.build(config.members, self._context, nn.Tanh, *how)
        parts = {"state": self._state, "action": self._action, "goal": self._goal}
        self.networks = nn.ModuleDict(parts).to(self.device)
        self.optimizer = adam(self.networks, config.learning_rate)
        named = self.networks.named_parameters()
        self._log_stds = [part for name, part in named if name.endswith("log_std")]
        self._spaces: dict[str, Any] = {"action": self.action_space}
        self._spaces |= dict.fromkeys(("state", "next_state", "end_state"), self.state_space)
        for name, size in {"goal": config.goal_size, "layout": config.layout_size}.items():
            self._spaces[name] = Box(-np.inf, np.inf, (size,)) if size else None

    def observe(
        self,
        state: Array,
        action: Array,
        next_state: Array,
        goal: Array | None = None,
        layout: Array | None = None,
    ) -> None:
        """Update the means and deviations by which everything is normalised.

        Arrays as in Transitions. Do it before training on them: what was learned is in the units
        of then.
        """
        seen = self._checked(Transitions(state, action, next_state, goal, layout))
        change = np.subtract(seen.state, seen.next_state, dtype=np.float64)
        self._state.observe(seen.next_state, change)
        self._action.observe(seen.action, seen.action)
        if seen.goal is not None:
            self._goal.observe(seen.goal)

    def update(self, batch: Transitions) -> float:
        """One step of the optimizer; returns the mean over rows and members of -log density
        before it (nats, in the units of the data). `observe` first.

        Raises ValueError, IndexError or TypeError for transitions that cannot be learned from,
        FloatingPointError where the density overflows; the model is then as it was.
        """
        return self._step(self._checked_batch(batch))

    def fit(
        self, transitions: Transitions, steps: int, batch_size: int = 256, rng: Rng = None
    ) -> Array:
        """Train on batches drawn with replacement, for each member its own.

        Observes the transitions first where nothing was observed yet. rng: the model's own stream
        where left out. returns float64 [steps], what `update` returns; raises what that raises,
        before the first step where transitions cannot be learned from
        """
        check_not_negative(steps=steps)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        seen, members = self._checked_batch(transitions), self.config.members
        rng, losses = self._stream(rng), []
        normalisers = (part for part in self.networks.modules() if isinstance(part, Normaliser))
        if any(part.scale.numel() and part.count == 0 for part in normalisers):
            self.observe(**vars(transitions))
        for _ in range(steps):
            rows = rng.integers(len(seen), size=members * batch_size)
            losses.append(self._step(seen.take(rows), members))
        return np.array(losses, np.float64)

    def _step(self, seen: Transitions, parts: int = 1) -> float:
        """parts: of the rows, as many as members, or 1 where all members see the same"""
        loss = -self._log_density(seen, parts).mean(1).sum()
        nll = loss.item() / self.config.members
        if not abs(nll) < _OVERFLOW:
            raise FloatingPointError(
                f"the mean of -log density is {nll}; observe transitions of this range, leave out "
                f"those far from all others, or lower learning_rate {self.config.learning_rate}"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for log_std in self._log_stds:
            log_std.data.clamp_(*LOG_STD)
        return nll

    @torch.no_grad()
    def log_prob(
        self,
        state: Array,
        action: Array,
        next_state: Array,
        goal: Array | None = None,
        layout: Array | None = None,
    ) -> Array:
        """log q(state, action | next_state), or log p(next_state | state, action) of a forward
        model, float64 [B]; of Box a density in the units of the data, the mean of all members'.

        Arrays as in Transitions. Raises ValueError, IndexError or TypeError for no transition.
        """
        seen = self._checked(Transitions(state, action, next_state, goal, layout))
        if not len(seen):
            return np.zeros(0)
        return np.where(self._possible(seen), _mean(self._log_density(seen)), -np.inf)

    def _possible(self, seen: Transitions) -> Array:
        """bool [B]"""
        return self._state.leads(seen.next_state, seen.state)

    def _log_density(self, seen: Transitions, parts: int = 1) -> Tensor:
        """float32 [M, B]"""
        context = self._seen(seen.next_state, seen.goal, seen.layout)
        inputs = self._inputs(context, seen.action, parts)
        of_action = self._action_log_prob(inputs[..., : self._context], seen.action)
        return of_action + self._state.log_prob(self._state(inputs), seen.next_state, seen.state)

    def _action_log_prob(self, context: Tensor, action: Array) -> Tensor | float:
        """[M, B], of actions given what is seen of the anchor; 0 where they are given too"""
        return self._action.log_prob(self._action(context), 0.0, action)

    def _seen(self, anchor: Array, goal: Array | None, layout: Array | None) -> Array:
        """What both networks see, float32 [B, context]."""
        parts = [self._state.features(anchor, layout)]
        if goal is not None:
            parts.append(self._goal.normalise(goal))
        if layout is not None:
            parts.append(layout.astype(np.float32))
        return np.concatenate(parts, 1)

    def _inputs(self, seen: Array, action: Array, parts: int = 1) -> Tensor:
        return self._tensor(np.concatenate([seen, self._action.features(action)], 1), parts)

    def _tensor(self, array: Array, parts: int = 1) -> Tensor:
        """[N, ...] -> [parts, N / parts, ...] on the device"""
        return torch.tensor(array, device=self.device).unflatten(0, (parts, -1))

    def _checked(self, given: Transitions) -> Transitions:
        return Transitions(*checked_columns(vars(given), self._spaces))

    def _checked_batch(self, given: Transitions) -> Transitions:
        """Transitions that can be learned from."""
        seen = self._checked(given)
        if not len(seen):
            raise ValueError("there are no transitions; give one at least")
        leads = self._state.leads(seen.next_state, seen.state)
        if not leads.all():
            row = int(leads.argmin())
            raise ValueError(
                f"row {row}: cells {seen.state[row]} and {seen.next_state[row]} are not "
                "neighbours; leave grid unset where a step may go further"
            )
        return seen

    def _stream(self, rng: Rng) -> np.random.Generator:
        return self._rng if rng is None else np.random.default_rng(rng)

    def _description(self) -> dict[str, Any]:
        spaces = {"state_space": self.state_space, "action_space": self.action_space}
        sizes = {name: f"{type(x).__name__} of {flatdim(x)}" for name, x in spaces.items()}
        return {"class": type(self).__name__, **sizes, **self.config.model_dump(mode="json")}

    def _live(self) -> dict[str, Tensor]:
        return training_state("networks", self.networks, self.optimizer)


class LearnedBacktrackingModel(TransitionModel, BacktrackingModel):
    """q(a | s') q(s - s' | a, s'), by maximum likelihood. The settings are RecallModelConfig's, and
    all but `sample_traces` is TransitionModel's. Source: Recall Traces, section 2."""

    @torch.no_grad()
    def sample_traces(
        self,
        end_state: Array,
        length: int,
        count: int,
        goal: Array | None = None,
        layout: Array | None = None,
        rng: Rng = None,
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state.

        end_state: int [E] or float [E, d] · goal, layout: float [E, ...], the same along a trace
        rng: the model's own stream where left out
        returns E * count traces, those of one end together; actions are clipped to their space,
        and a trace ends before it would leave the `support`. log_prob is that of `log_prob`
        Raises ValueError, IndexError or TypeError for what is no state, goal, layout or count.
        """
        check_not_negative(length=length, count=count)
        columns = {"end_state": end_state, "goal": goal, "layout": layout}
        checked = checked_columns(columns, self._spaces)
        every, stream = np.repeat(np.arange(len(checked[0])), count), self._stream(rng)
        start, *given = (taken(part, every) for part in checked)
        members = stream.integers(self.config.members, size=len(start))

        def step(anchor: Array, row: Array) -> tuple[Array, ...]:
            seen = self._seen(anchor, *(taken(part, row) for part in given))
            action, of_action = self._act(self._tensor(seen), members[row], stream)
            inputs = self._inputs(seen, action)
            before, of_state = self._state.sample(inputs, anchor, members[row], stream)
            kept = self._state.supported(before)
            return kept, action[kept], before[kept], _mean(of_action + of_state)[kept]

        return Traces.unrolled(start, length, self.action_space, step)

    def _act(self, context: Tensor, member: Array, rng: Any) -> tuple[Array, Tensor | float]:
        """Actions given what is seen of the anchor, and their log density [M, R]."""
        return self._action.sample(context, 0.0, member, rng)


class RandomBacktrackingModel(LearnedBacktrackingModel):
    """The paper's ablation: q(action | next_state) is uniform over the action space, and only the
    change of the state given the action is learned.

    Raises ValueError for an action space without bounds.
    """

    _learns_actions: ClassVar[bool] = False

    def __init__(self, state_space: Any, action_space: Any, *config: Any, **settings: Any) -> None:
        super().__init__(state_space, action_space, *config, **settings)
        space = self.action_space
        if isinstance(space, Box) and not space.is_bounded():
            raise ValueError(f"action_space is {space}; give bounds to draw actions between")

    def _action_log_prob(self, context: Tensor, action: Array) -> Tensor | float:
        space = self.action_space
        if isinstance(space, Discrete):
            return -math.log(space.n)
        return -float(np.log(space.high.astype(np.float64) - space.low).sum())

    def _possible(self, seen: Transitions) -> Array:
        possible, space = super()._possible(seen), self.action_space
        if isinstance(space, Box):
            possible &= ((seen.action >= space.low) & (seen.action <= space.high)).all(1)
        return possible

    def _act(self, context: Tensor, member: Array, rng: Any) -> tuple[Array, Tensor | float]:
        space, rows = self.action_space, len(member)
        if isinstance(space, Discrete):
            action = rng.integers(space.n, size=rows)
        else:
            action = rng.uniform(space.low, space.high, (rows, *space.shape)).astype(np.float32)
        return action, self._action_log_prob(context, action)


class ForwardModel(TransitionModel):
    """p(s' - s | s, a): the backtracking model turned round, Dyna's in the paper's comparison."""

    _learns_actions: ClassVar[bool] = False

    @torch.no_grad()
    def sample(
        self,
        state: Array,
        action: Array,
        goal: Array | None = None,
        layout: Array | None = None,
        rng: Rng = None,
    ) -> Array:
        """What may come next of each state and action: int64 [B] or float32 [B, d].

        Arrays as in Transitions; rng: the model's own stream where left out
        Raises ValueError, IndexError or TypeError for what is no state, action, goal or layout.
        """
        columns = {"state": state, "action": action, "goal": goal, "layout": layout}
        state, action, *given = checked_columns(columns, self._spaces)
        stream = self._stream(rng)
        inputs = self._inputs(self._seen(state, *given), action)
        member = stream.integers(self.config.members, size=len(state))
        return self._state.sample(inputs, state, member, stream)[0]

    def _checked(self, given: Transitions) -> Transitions:
        seen = super()._checked(given)
        return replace(seen, state=seen.next_state, next_state=seen.state)

    def _action_log_prob(self, context: Tensor, action: Array) -> Tensor | float:
        return 0.0


def _mean(log_density: Tensor) -> Array:
    """log of the members' mean density. [M, B] -> float64 [B]"""
    of_members = log_density.cpu().numpy().astype(np.float64)
    return np.asarray(np.logaddexp.reduce(of_members, axis=0) - math.log(len(of_members)))
