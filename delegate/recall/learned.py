"""The backtracking model learned from transitions, and the ablation whose actions are random."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from delegate.recall.config import RecallModelConfig
from delegate.recall.encoding import mean_density
from delegate.recall.learning import Rng, TransitionModel
from delegate.recall.model import BacktrackingModel
from delegate.recall.traces import Traces
from delegate.recall.transitions import Transitions, checked_column
from delegate.recall.unrolling import unroll


class LearnedBacktrackingModel(TransitionModel, BacktrackingModel):
    """q(a | s') q(s - s' | a, s'), by maximum likelihood.

    Box states change by a Gaussian whose deviation is learned for each dimension, or a mixture;
    Box actions are Gaussian. Discrete states and actions are categorical. The settings are
    RecallModelConfig's; `observe`, `update`, `fit`, `save` and `load` are TransitionModel's.
    Source: Recall Traces (arXiv 1804.00379), section 2.
    """

    def log_prob(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
    ) -> np.ndarray:
        """log q(state, action | next_state), float64 [B]; where states or actions are Box a
        density, in the units of the data.

        Arrays as in Transitions. Raises ValueError or IndexError for what cannot be a transition.
        """
        return self._log_prob(Transitions(state, action, next_state, goal, layout))

    @torch.no_grad()
    def sample_traces(
        self,
        end_state: np.ndarray,
        length: int,
        count: int,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
        rng: Rng = None,
        mean_actions: bool = False,
        mean_changes: bool = False,
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state.

        end_state: int [E] or float [E, d] · goal, layout: float [E, ...], the same along a trace
        rng: the model's own stream where left out
        mean_actions, mean_changes: always the likeliest action, and change of the state
        returns E * count traces, those of one end together; actions are clipped to their space,
        and a trace ends before it would leave the `support`. log_prob is that of `log_prob`
        Raises ValueError or IndexError for what cannot be a state, a goal or a layout, ValueError
        for a length or count below 0.
        """
        ends, given = self._starts("end_state", end_state, count, goal, layout)
        generator = self._generator(rng)
        members = self.config.members
        member = torch.randint(members, (len(ends),), generator=generator, device=self.device)

        def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            goals, layouts = (None if part is None else part[row] for part in given)
            context = self._seen(state, goals, layouts)
            by, volume = member[row], self._log_volume
            action, of_action = self._draw_action(context, by, generator, mean_actions)
            before, of_state = self._draw_state(state, context, action, by, generator, mean_changes)
            return action, before, mean_density(of_action + of_state) - volume

        return unroll(ends, length, self.action_space, step, self._states.supported)

    @torch.no_grad()
    def state_before(
        self,
        next_state: np.ndarray,
        action: np.ndarray,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
        rng: Rng = None,
    ) -> np.ndarray:
        """The likeliest state before each, given what was done there; int [B] or float32 [B, d].

        Arrays as in Transitions; of an ensemble, for each row one network drawn at random says it.
        Raises ValueError or IndexError for what cannot be a transition.
        """
        action = checked_column("action", action, self.action_space, len(next_state))
        after, given = self._starts("next_state", next_state, 1, goal, layout)
        generator = self._generator(rng)
        member = torch.randint(
            self.config.members, (len(after),), generator=generator, device=self.device
        )
        done = torch.tensor(action, device=self.device)
        done = done.float() if done.is_floating_point() else done
        context = self._seen(after, *given)
        before, _ = self._draw_state(after, context, done, member, generator, mean=True)
        return before.cpu().numpy()

    def _draw_action(
        self, context: Tensor, member: Tensor, generator: torch.Generator, mean: bool
    ) -> tuple[Tensor, Tensor]:
        """Actions [R, ...] and their log density [M, R], normalised units."""
        code = self._actions
        inputs = context.expand(self.config.members, *context.shape)
        outputs = self._action_network.forward(inputs)[-1]
        action = code.value(code.head.draw(outputs, member, generator, mean))
        return action, code.head.log_prob(outputs, code.target(action)[None])


class RandomBacktrackingModel(LearnedBacktrackingModel):
    """The paper's ablation: actions are drawn at random from their space, and only the change
    of the state given the action is learned.

    Raises ValueError for an action space without bounds.
    """

    _learns_actions: ClassVar[bool] = False

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
        super().__init__(state_space, action_space, config, device=device, seed=seed, **settings)
        space = self.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            self._log_uniform = -float(np.log(space.n))
            return
        if not space.is_bounded():
            raise ValueError(f"action_space is {space}; give bounds to draw actions between")
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._low, self._high = (
            torch.tensor(part, device=self.device).float() for part in (low, high)
        )
        self._log_uniform = -float(np.log(high - low).sum())

    def log_prob(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
    ) -> np.ndarray:
        """As the learned model's, with q(action | next_state) uniform over the action space."""
        log_prob = super().log_prob(state, action, next_state, goal, layout) + self._log_uniform
        if isinstance(self.action_space, gymnasium.spaces.Discrete):
            return log_prob
        space, action = self.action_space, np.asarray(action)
        inside = ((action >= space.low) & (action <= space.high)).all(1)
        return np.where(inside, log_prob, -np.inf)

    def _draw_action(
        self, context: Tensor, member: Tensor, generator: torch.Generator, mean: bool
    ) -> tuple[Tensor, Tensor]:
        rows, device, space = len(context), self.device, self.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            action = torch.randint(int(space.n), (rows,), generator=generator, device=device)
        else:
            drawn = torch.rand((rows, *space.shape), generator=generator, device=device)
            action = torch.lerp(self._low, self._high, drawn)
        return action, torch.full((1, rows), self._log_uniform, device=device)
