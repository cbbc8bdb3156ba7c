"""What each algorithm is asked to do with what was recalled, and how far it has moved, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from small_recall import CONTINUOUS, DISCRETE, PAIRS, made
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from delegate.recall.stable_baselines.losses import learner_of

EVERY_PAIR = pytest.mark.parametrize(("name", "task"), PAIRS)


def batch(model: Any, rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Observations at random, and one and the same action in each."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(rows, *model.observation_space.shape)).astype(np.float32)
    discrete = isinstance(model.action_space, Discrete)
    return seen, np.zeros(rows, np.int64) if discrete else np.full((rows, 1), 1.5)


def imitate(learner: Any, state: np.ndarray, action: np.ndarray, steps: int) -> list[float]:
    """The losses of those steps of Adam."""
    optimiser, losses = torch.optim.Adam(learner.parameters(), lr=1e-2), []
    for _ in range(steps):
        loss = learner.losses(state, action).mean()
        losses.append(loss.item())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return losses


@EVERY_PAIR
def test_imitation_makes_what_was_recalled_likelier(name: str, task: str) -> None:
    model = made(name, task)
    learner, (state, action) = learner_of(model), batch(model)
    with torch.no_grad():
        before = learner.distribution(state)
    losses = imitate(learner, state, action, 60)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        assert learner.divergence(learner.distribution(state), state) == pytest.approx(0, abs=1e-5)
    assert learner.divergence(before, state) > 1e-3
    does, _ = model.predict(state, deterministic=True)
    if isinstance(model.action_space, Discrete):
        assert (does == 0).mean() > 0.95
    else:
        assert does.mean() > 0.5
    assert learner.value(state).shape == (64,)


class Narrow(TorchDispatchMode):
    """Fails at whatever gives a 64-bit float, which MPS has not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for part in tree_leaves(found):
            assert not (isinstance(part, torch.Tensor) and part.dtype == torch.float64), func
        return found


@pytest.mark.parametrize("normalise", [False, True])
@EVERY_PAIR
def test_nothing_on_the_device_is_of_64_bits(name: str, task: str, normalise: bool) -> None:
    model = made(name, task, normalise=normalise)
    learner, (state, action) = learner_of(model), batch(model)
    for wide in (state, state.astype(np.float64)):
        with Narrow():
            learner.value(wide)
            with torch.no_grad():
                before = learner.distribution(wide)
            imitate(learner, wide, action, 2)
            learner.divergence(before, wide)
    with pytest.raises(AssertionError), Narrow():
        torch.as_tensor(np.zeros(3)) + 1  # the test would notice


def test_a_gaussian_policy_keeps_its_standard_deviation() -> None:
    model = made("PPO", CONTINUOUS)
    learner = learner_of(model)
    loss = learner.losses(np.zeros((4, 3), np.float32), np.full((4, 1), 2.0)).mean()
    loss.backward()
    assert model.policy.log_std.grad is None
    # (2 - mean)^2 / 2 at a standard deviation of one
    mean = model.policy.get_distribution(torch.zeros(4, 3)).distribution.mean
    assert loss.item() == pytest.approx(((2.0 - mean) ** 2 / 2).mean().item(), rel=1e-5)


def test_the_loss_of_sac_by_hand() -> None:
    """Of a mean of 0.1 and a deviation of a half; 0.99999 counts as 0.9999, whose pull is that of
    two deviations. Pendulum's actions go from -2 to 2."""
    model = made("SAC", CONTINUOUS)
    actor = model.actor
    with torch.no_grad():
        for layer, bias in ((actor.mu, 0.1), (actor.log_std, float(np.log(0.5)))):
            layer.weight.zero_()
            layer.bias.fill_(bias)
    action = 2 * np.array([[np.tanh(0.4)], [np.tanh(-1.9)], [0.99999]])
    found = learner_of(model).losses(np.zeros((3, 3), np.float32), action)
    off = np.array([0.6, 4.0, (np.arctanh(0.9999) - 0.1) / 0.5])
    expected = np.where(off > 2, 2 * (off - 1), off**2 / 2)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-3)
    pulls = []
    for one in found:
        actor.mu.bias.grad = None
        one.backward(retain_graph=True)
        pulls.append(actor.mu.bias.grad.item())
    np.testing.assert_allclose(pulls, [-0.6 / 0.5, 2 / 0.5, -2 / 0.5], rtol=1e-3)
    assert actor.log_std.bias.grad is None


def test_the_margin_loss_of_dqn_by_hand() -> None:
    model = made("DQN", DISCRETE)
    observation = np.zeros((2, 4), np.float32)
    value = model.q_net(torch.zeros(2, 4)).detach().numpy()
    for action in (0, 1):
        other = value[0, 1 - action] + 0.8
        expected = max(value[0, action], other) - value[0, action]
        found = learner_of(model).losses(observation, np.full(2, action))
        assert found.detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_the_loss_of_td3_by_hand() -> None:
    """Pendulum's actions go from −2 to 2, and the actor's from −1 to 1."""
    model = made("TD3", CONTINUOUS)
    observation = np.zeros((2, 3), np.float32)
    does = model.actor(torch.zeros(2, 3)).detach().numpy()
    found = learner_of(model).losses(observation, np.array([[1.0], [-2.0]]))
    expected = (does[:, 0] - np.array([0.5, -1.0])) ** 2 / 2
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS])
def test_the_critic_of_ppo_and_dqn_by_hand(task: str) -> None:
    model = made("PPO", task)
    state, _ = batch(model, 5)
    with torch.no_grad():
        expected = model.policy.value_net(model.policy.mlp_extractor(torch.as_tensor(state))[1])
    np.testing.assert_allclose(learner_of(model).value(state), expected[:, 0].numpy(), rtol=1e-5)
    if task == DISCRETE:
        model = made("DQN", task)
        highest = model.q_net(torch.as_tensor(state)).detach().numpy().max(axis=1)
        np.testing.assert_allclose(learner_of(model).value(state), highest, rtol=1e-5)


@pytest.mark.parametrize("name", ["SAC", "TD3"])
def test_the_critic_is_asked_about_what_the_policy_does(name: str) -> None:
    model = made(name, CONTINUOUS)
    state, _ = batch(model, 5)
    with torch.no_grad():
        action = torch.as_tensor(
            model.policy.scale_action(model.predict(state, None, None, True)[0])
        )
        both = model.critic(torch.as_tensor(state), action)
    np.testing.assert_allclose(
        learner_of(model).value(state), torch.cat(both, 1).min(1).values.numpy(), rtol=1e-5
    )


@EVERY_PAIR
def test_divergence_is_that_of_the_distributions(name: str, task: str) -> None:
    """In nats. Squashing, which both of SAC's share, changes none; a deviation that is left to
    the algorithm counts as it was; what is deterministic is a Gaussian of deviation one."""
    model = made(name, task)
    learner, rng = learner_of(model), np.random.default_rng(0)
    state, _ = batch(model, 50)
    seen = torch.as_tensor(state)

    def by_hand() -> torch.distributions.Distribution:
        if name == "DQN":
            return Independent(Normal(model.q_net(seen), 1.0), 1)
        if name == "TD3":
            return Independent(Normal(model.actor(seen), 1.0), 1)
        if name == "SAC":
            mean, log_std, _ = model.actor.get_action_dist_params(seen)
            return Independent(Normal(mean, log_std.exp()), 1)
        own = model.policy.get_distribution(seen).distribution
        if task == DISCRETE:
            return Categorical(logits=own.logits)
        return Independent(Normal(own.mean, own.stddev), 1)

    with torch.no_grad():
        before, expected = learner.distribution(state), by_hand()
        for parameter in learner.parameters():
            if parameter is not getattr(model.policy, "log_std", None):
                parameter += 0.1 * torch.from_numpy(rng.normal(size=parameter.shape)).float()
        exact = [
            kl_divergence(*both).mean().item()
            for both in ((expected, by_hand()), (by_hand(), expected))
        ]
    assert exact[0] != pytest.approx(exact[1], rel=1e-3) or name != "SAC"
    assert learner.divergence(before, state) == pytest.approx(exact[0], rel=1e-4)
