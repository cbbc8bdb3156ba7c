"""A step along the natural gradient, against least squares in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from delegate.recall.imitation import RecallConfig
from delegate.recall.natural import DAMPING, natural_step

ROWS = 400


def problem(seed: int = 0) -> tuple[Tensor, Tensor, nn.Parameter]:
    """States of very different scales, actions and the mean's coefficients."""
    rng = torch.Generator().manual_seed(seed)
    state = torch.randn(ROWS, 3, generator=rng) * torch.tensor([10.0, 1.0, 0.3])
    action = torch.randn(ROWS, generator=rng) + state @ torch.tensor([0.1, -1.0, 3.0])
    return state, action, nn.Parameter(torch.zeros(3))


def squared(state: Tensor, action: Tensor, mean: nn.Parameter) -> Tensor:
    """−log of a Gaussian of deviation one about the mean, up to a constant."""
    return (action - state @ mean).pow(2).mean() / 2


def divergence(state: Tensor, mean: nn.Parameter) -> Callable[[], Tensor]:
    before = (state @ mean).detach()
    return lambda: (state @ mean - before).pow(2).mean() / 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_that_of_damped_least_squares(seed: int) -> None:
    state, action, mean = problem(seed)
    reached = natural_step(squared(state, action, mean), divergence(state, mean), [mean], 1e-3)
    square = (state.T @ state / ROWS).double().numpy()
    damped = square + DAMPING * np.eye(3)
    way = np.linalg.solve(damped, (state.T @ action / ROWS).double().numpy())
    way *= np.sqrt(2 * 1e-3 / (way @ damped @ way))
    assert mean.detach().numpy() == pytest.approx(way, rel=1e-3)
    assert reached == pytest.approx(way @ square @ way / 2, rel=1e-3)
    assert 0.5e-3 < reached <= 1e-3


def test_the_plain_gradient_is_worth_less_at_the_same_divergence() -> None:
    state, action, mean = problem()
    begun = squared(state, action, mean)
    (slope,) = torch.autograd.grad(begun, [mean])
    reached = natural_step(squared(state, action, mean), divergence(state, mean), [mean], 1e-3)
    natural = begun - squared(state, action, mean)
    plain = nn.Parameter(-slope)
    with torch.no_grad():
        plain *= (reached / ((state @ plain).pow(2).mean() / 2)).sqrt()
    assert natural > 1.1 * (begun - squared(state, action, plain))


@pytest.mark.parametrize("size", [1e-4, 1e-1, 10.0])
def test_a_curved_policy_goes_no_further_than_allowed(size: float) -> None:
    rng = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.randn(part.shape, generator=rng) / 4)
    state, action = torch.randn(ROWS, 4, generator=rng), torch.randn(ROWS, 2, generator=rng)
    before = net(state).detach()

    def moved() -> Tensor:
        return (net(state) - before).pow(2).sum(dim=1).mean() / 2

    loss = (net(state) - action).pow(2).sum(dim=1).mean() / 2
    reached = natural_step(loss, moved, net.parameters(), size)
    assert 0.3 * size < reached <= size
    assert reached == pytest.approx(moved().item(), rel=1e-5)
    if size < 1:
        assert (net(state) - action).pow(2).sum(dim=1).mean() / 2 < loss


def test_nothing_moves_without_a_gradient() -> None:
    state, _, mean = problem()
    other = nn.Parameter(torch.ones(2))
    loss = squared(state, torch.zeros(ROWS), mean)
    assert natural_step(loss, divergence(state, mean), [mean, other], 1e-3) == 0
    assert mean.detach().tolist() == [0, 0, 0]
    assert other.tolist() == [1, 1]


def test_frozen_parameters_stay_and_others_move() -> None:
    state, action, mean = problem()
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    unused = nn.Parameter(torch.ones(1))
    loss = (squared(state, action, mean) * frozen).sum()
    assert natural_step(loss, divergence(state, mean), [mean, frozen, unused], 1e-3) > 0
    assert frozen.item() == unused.item() == 1
    assert mean.detach().abs().max() > 0


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_direction_moves_nothing(scale: float) -> None:
    state, action, mean = problem()
    loss = squared(state, action, mean) * scale
    assert natural_step(loss, divergence(state, mean), [mean], 1e-3) == 0
    assert mean.detach().tolist() == [0, 0, 0]


def test_how_steep_the_loss_is_does_not_matter() -> None:
    state, action, _ = problem()
    ends = []
    for scale in (1.0, 1e-30):
        mean = nn.Parameter(torch.zeros(3))
        loss = squared(state, action, mean) * scale
        assert natural_step(loss, divergence(state, mean), [mean], 1e-3) > 0
        ends.append(mean.detach().numpy())
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)


def test_a_divergence_that_stays_too_large_moves_nothing() -> None:
    state, action, mean = problem()
    there = divergence(state, mean)

    def moved() -> Tensor:
        return there() + (mean.detach() != 0).any()

    assert natural_step(squared(state, action, mean), moved, [mean], 1e-3) == 0
    assert mean.detach().tolist() == [0, 0, 0]


def test_its_settings_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"needs its length; give max_divergence"):
        RecallConfig(optimiser="natural")
    with pytest.raises(ValueError, match=r"imitation_updates is 3.*takes one step"):
        RecallConfig(optimiser="natural", max_divergence=0.01, imitation_updates=3)
