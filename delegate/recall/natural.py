"""A step along the natural gradient, as long as a divergence allows.

Source: Schulman et al., Trust Region Policy Optimization (arXiv 1502.05477), appendix C, without
its line search: here the step only shrinks until the divergence holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor, nn

ITERATIONS = 10
"""of conjugate gradients"""
DAMPING = 0.1
"""of the Fisher matrix (that of TRPO in sb3-contrib)"""
_SHRINKAGES = 10


def natural_step(
    loss: Tensor,
    divergence: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    size: float,
) -> float:
    """Lower the loss by one step of that divergence; the divergence reached.

    divergence: of what the parameters give now from what they gave at first, differentiable
    size: in units of the divergence (nats)
    Nothing moves where the gradient is zero.
    """
    given = list(parameters)
    slopes = torch.autograd.grad(loss, given, allow_unused=True)
    moved = [p for p, slope in zip(given, slopes, strict=True) if slope is not None]
    slope = _flat(g for g in slopes if g is not None)
    if not slope.any():
        return 0.0
    steepness = _flat(torch.autograd.grad(divergence(), moved, create_graph=True))

    def curved(vector: np.ndarray) -> np.ndarray:
        along = torch.as_tensor(vector, dtype=slope.dtype, device=slope.device)
        product = _flat(torch.autograd.grad(steepness @ along, moved, retain_graph=True))
        return (product + DAMPING * along).cpu().numpy()

    shape = (len(slope), len(slope))
    fisher = LinearOperator(shape, curved, dtype=np.float64)
    way, _ = cg(fisher, -slope.double().cpu().numpy(), rtol=1e-5, maxiter=ITERATIONS)
    way *= np.sqrt(2 * size / (way @ curved(way)))
    first = [p.detach().clone() for p in moved]
    step = torch.as_tensor(way, dtype=slope.dtype, device=slope.device)
    reached = 0.0
    for _ in range(_SHRINKAGES):
        _place(moved, first, step)
        with torch.no_grad():
            reached = float(divergence())
        if reached <= size:
            break
        step = step * 0.95 * (size / reached) ** 0.5
    return reached


def _flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _place(parameters: list[nn.Parameter], first: list[Tensor], step: Tensor) -> None:
    sizes = [parameter.numel() for parameter in parameters]
    with torch.no_grad():
        for parameter, start, part in zip(parameters, first, step.split(sizes), strict=True):
            parameter.copy_(start + part.view_as(start))
