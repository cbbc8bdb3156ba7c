"""What each algorithm is asked to do with what was recalled, and how far it has moved, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_recall import CONTINUOUS, DISCRETE, FEW, STEPS, logged, made
from stable_baselines3 import DDPG
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from delegate import RecallTraces
from delegate.recall.algorithms import learner_of


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
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4)
    pulls = []
    for one in found:
        actor.mu.bias.grad = None
        one.backward(retain_graph=True)
        pulls.append(actor.mu.bias.grad.item())
    np.testing.assert_allclose(pulls, [-0.6 / 0.5, 2 / 0.5, -2 / 0.5], rtol=1e-4)
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


def test_ddpg_recalls_as_td3_does() -> None:
    ends = []
    for recall in (None, RecallTraces(**FEW)):
        model = DDPG(
            "MlpPolicy",
            made("TD3", CONTINUOUS).get_env(),
            seed=0,
            policy_kwargs={"net_arch": [16]},
            device="cpu",
            learning_starts=100,
            train_freq=32,
        )
        told = logged(model)
        model.learn(STEPS, callback=recall)
        ends.append(torch.nn.utils.parameters_to_vector(model.actor.parameters()).detach().numpy())
    assert np.isfinite(told["recall/imitation_loss"])
    assert np.isfinite(ends[1]).all()
    assert not np.array_equal(*ends)


@pytest.mark.parametrize(
    ("name", "task"),
    [(name, task) for name in ("A2C", "PPO", "TRPO") for task in (DISCRETE, CONTINUOUS)]
    + [("SAC", CONTINUOUS)],
)
def test_divergence_is_that_of_the_distributions(name: str, task: str) -> None:
    """In nats. Squashing, which both of SAC's share, changes none; a deviation that is left to
    the algorithm counts as it was."""
    model = made(name, task)
    learner, rng = learner_of(model), np.random.default_rng(0)
    state = rng.normal(size=(50, *model.observation_space.shape)).astype(np.float32)
    before, moved = learner.distribution(state).detach(), learner.moved(state)
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter is not getattr(model.policy, "log_std", None):
                parameter += 0.1 * torch.from_numpy(rng.normal(size=parameter.shape)).float()
    after = learner.distribution(state).detach()

    def as_torch(numbers: torch.Tensor) -> torch.distributions.Distribution:
        if task == DISCRETE:
            return Categorical(logits=numbers)
        return Independent(Normal(*numbers), 1)

    pair = as_torch(before), as_torch(after)
    exact = [kl_divergence(*both).mean().item() for both in (pair, pair[::-1])]
    assert exact[0] != pytest.approx(exact[1], rel=1e-3) or name != "SAC"
    assert moved().item() == pytest.approx(exact[0], rel=1e-4)
