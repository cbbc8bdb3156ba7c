"""A step along the natural gradient, as long as a divergence allows.

Source: Schulman et al., Trust Region Policy Optimization (arXiv 1502.05477), appendix C, without
its line search: here the step only shrinks until the divergence holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor, nn
from torch.autograd import grad

ITERATIONS = 10
"""of conjugate gradients"""
DAMPING = 0.1
"""of the Fisher matrix (that of TRPO in sb3-contrib)"""
_SHRINKAGES = 10


def natural_step(
    loss: Tensor,
    divergence: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    max_divergence: float,
) -> float:
    """Lower the loss by one step; the divergence reached.

    divergence: of what the parameters give now from what they gave at first, differentiable
    max_divergence: how far to go (nats); damping keeps the step shorter where little changes

    Nothing moves, and the divergence is 0, where the gradient is zero or not finite.
    """
    moved = [parameter for parameter in parameters if parameter.requires_grad]
    gradient = _flat(grad(loss, moved, materialize_grads=True))
    if not gradient.any() or not torch.isfinite(gradient).all():
        return 0.0
    gradient = gradient / gradient.abs().max()  # its size does not matter
    of_divergence = _flat(grad(divergence(), moved, create_graph=True, materialize_grads=True))

    def fisher_product(vector: np.ndarray) -> np.ndarray:
        along = torch.as_tensor(vector, dtype=gradient.dtype, device=gradient.device)
        rows = grad(of_divergence @ along, moved, retain_graph=True, materialize_grads=True)
        return np.asarray((_flat(rows) + DAMPING * along).cpu().double())

    shape = (len(gradient), len(gradient))
    fisher = LinearOperator(shape, fisher_product, dtype=np.float64)
    direction, _ = cg(fisher, -gradient.cpu().double().numpy(), rtol=1e-5, maxiter=ITERATIONS)
    with np.errstate(divide="ignore", invalid="ignore"):
        direction *= np.sqrt(2 * max_divergence / (direction @ fisher_product(direction)))
    if not np.isfinite(direction).all():
        return 0.0
    before = [parameter.detach().clone() for parameter in moved]
    step = torch.as_tensor(direction, dtype=gradient.dtype, device=gradient.device)
    for _ in range(_SHRINKAGES):
        _place(moved, before, step)
        with torch.no_grad():
            reached = float(divergence())
        if reached <= max_divergence:
            return reached
        step = step * (0.95 * (max_divergence / reached) ** 0.5 if np.isfinite(reached) else 0.1)
    _place(moved, before, torch.zeros_like(step))
    return 0.0


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _place(parameters: list[nn.Parameter], before: list[Tensor], step: Tensor) -> None:
    parts = step.split([parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, first, part in zip(parameters, before, parts, strict=True):
            parameter.copy_(first + part.view_as(first))
