"""Traces drawn step by step, for all starts at once."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import torch
from torch import Tensor

from delegate.recall.traces import Traces
from delegate.recall.transitions import Space

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""step(state [R, ...], row [R]) -> action [R, ...], the state it goes on to, log_prob [R]"""


def unroll(
    start: Tensor,
    length: int,
    action_space: Space,
    step: Step,
    supported: Callable[[Tensor], Tensor | None],
) -> Traces:
    """Up to `length` steps from each start; index k of the traces is k steps from it.

    start: [N, ...] · supported: a row ends before a step to a state where this is False
    Raises ValueError for a negative length.
    """
    if length < 0:
        raise ValueError(f"length is {length} steps; give 0 or more")
    rows, device = len(start), start.device
    states = _blank((rows, length + 1, *start.shape[1:]), not start.is_floating_point(), device)
    states[:, 0] = start
    discrete = isinstance(action_space, gymnasium.spaces.Discrete)
    actions = _blank((rows, length, *(action_space.shape or ())), discrete, device)
    log_prob = torch.zeros((rows, length), dtype=torch.float64, device=device)
    valid = torch.zeros((rows, length), dtype=torch.bool, device=device)
    alive = torch.arange(rows, device=device)
    state = start
    for k in range(length):
        if not len(alive):
            break
        action, state, density = step(state, alive)
        kept = supported(state)
        if kept is not None and not bool(kept.all()):
            alive, action, state, density = (part[kept] for part in (alive, action, state, density))
        states[alive, k + 1] = state.to(states.dtype)
        actions[alive, k] = action.to(actions.dtype)
        log_prob[alive, k] = density
        valid[alive, k] = True
    return Traces(
        states.cpu().numpy(), actions.cpu().numpy(), log_prob.cpu().numpy(), valid.cpu().numpy()
    )


def _blank(shape: tuple[int, ...], discrete: bool, device: torch.device) -> Tensor:
    if discrete:
        return torch.full(shape, -1, dtype=torch.int32, device=device)
    return torch.zeros(shape, device=device)
