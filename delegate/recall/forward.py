"""The ablation that looks forwards, as Dyna does: where does an action lead?"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from delegate.recall.encoding import mean_density
from delegate.recall.learning import Rng, TransitionModel
from delegate.recall.traces import Traces
from delegate.recall.transitions import Transitions, checked_column
from delegate.recall.unrolling import unroll


class ForwardModel(TransitionModel):
    """p(s' - s | s, a), by maximum likelihood: the networks of the backtracking model turned round.

    Settings are RecallModelConfig's, and training is TransitionModel's.
    Source: Recall Traces (arXiv 1804.00379), the comparison with Dyna.
    """

    _backwards: ClassVar[bool] = False
    _learns_actions: ClassVar[bool] = False

    def log_prob(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
    ) -> np.ndarray:
        """log p(next_state | state, action), float64 [B]; arrays as in Transitions.

        Raises ValueError or IndexError for what cannot be a transition.
        """
        return self._log_prob(Transitions(state, action, next_state, goal, layout))

    @torch.no_grad()
    def sample_traces(
        self,
        start_state: np.ndarray,
        policy: Callable[[np.ndarray], np.ndarray],
        length: int,
        count: int,
        goal: np.ndarray | None = None,
        layout: np.ndarray | None = None,
        rng: Rng = None,
        mean_changes: bool = False,
    ) -> Traces:
        """Imagine `count` traces of up to `length` steps of `policy` from each start state.

        start_state: int [E] or float [E, d] · policy: states [R, ...] -> actions [R, ...]
        mean_changes: always the likeliest change of the state
        returns E * count traces in reversed time, as a backtracking model's are: index 0 is the
        last state reached, and the start stands at the last valid index; log_prob is that of
        `log_prob`, the policy's not among it
        Raises ValueError or IndexError for what cannot be a state, a goal, a layout or, of the
        policy, an action, ValueError for a length or count below 0.
        """
        starts, given = self._starts("start_state", start_state, count, goal, layout)
        generator = self._generator(rng)
        members = self.config.members
        member = torch.randint(members, (len(starts),), generator=generator, device=self.device)

        def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            goals, layouts = (None if part is None else part[row] for part in given)
            context = self._seen(state, goals, layouts)
            chosen = policy(state.cpu().numpy())
            checked = checked_column("the policy's action", chosen, self.action_space, len(row))
            action = torch.tensor(checked, device=self.device)
            by = member[row]
            after, log_prob = self._draw_state(state, context, action, by, generator, mean_changes)
            return action, after, mean_density(log_prob) - self._log_volume

        return _reversed(unroll(starts, length, self.action_space, step, self._states.supported))


def _reversed(traces: Traces) -> Traces:
    """The same traces counted from their other end; what lies beyond the end stays beyond."""
    steps = traces.valid.sum(1)[:, None]
    row = np.arange(len(traces))[:, None]

    def turned(values: np.ndarray, last: np.ndarray) -> np.ndarray:
        index = np.arange(values.shape[1])[None]
        return values[row, np.where(index <= last, last - index, index)]

    return Traces(
        turned(traces.states, steps),
        turned(traces.actions, steps - 1),
        turned(traces.log_prob, steps - 1),
        traces.valid,
    )
