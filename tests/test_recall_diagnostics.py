"""The bounds in the log of RecallTraces, with the real algorithms of Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import multivariate_normal
from small_recall import CONTINUOUS, DISCRETE, FEW, SMALL_RECALL, STEPS, logged, made, same, weights
from stable_baselines3 import A2C, DDPG, SAC

from delegate import RecallTraces, StableVecEnv, envs
from delegate.recall import ExactBacktrackingModel, ForwardModel, diagnostics, variational
from delegate.recall.algorithms import learner_of
from delegate.recall.density import log_density
from delegate.recall.targets import worthy
from delegate.recall.trajectories import TrajectoryBuffer

KEYS = ["recall/bound", "recall/bound_upper", "recall/log_evidence", "recall/forward_nll"]
WITH: dict[str, Any] = {**FEW, "diagnostics": True}


def grid(exact: bool) -> tuple[Any, dict[str, Any]]:
    """A2C in FourRooms with integers for observations, and a true or a learned model of it."""
    world = envs.make(
        "FourRooms", 4, size=7, num_levels=1, observation="integer", autoreset_mode="Disabled"
    )
    settings = dict(WITH)
    if exact:
        settings = {"model": ExactBacktrackingModel(world.transition_table()), "diagnostics": True}
        settings |= SMALL_RECALL
    return A2C("MlpPolicy", StableVecEnv(world), seed=0, device="cpu", n_steps=16), settings


def trained(name: str, **changed: Any) -> tuple[Any, RecallTraces, dict[str, Any]]:
    if name in ("exact", "learned"):
        model, settings = grid(name == "exact")
    else:
        model, settings = made(name, CONTINUOUS, normalise=name == "PPO"), WITH
    settings = settings | changed
    told, recall = logged(model), RecallTraces(**settings)
    model.learn(STEPS, callback=recall)
    return model, recall, told


@pytest.mark.parametrize("name", ["exact", "learned", "PPO", "SAC"])
def test_they_are_logged_and_change_nothing(name: str) -> None:
    (model, _, told), (_, _, again) = trained(name), trained(name)
    keys = [key for key in KEYS if name != "exact" or key != "recall/forward_nll"]
    assert all(np.isfinite(told[key]) for key in keys)
    assert told["recall/log_evidence"] < 0
    assert [told[key] for key in keys] == [again[key] for key in keys]
    plain, _, quiet = trained(name, diagnostics=False)
    assert same(weights(model), weights(plain))
    assert not set(KEYS) & set(quiet)
    timed = ("time/", "recall/time_share")
    assert {key: told[key] for key in quiet if not key.startswith(timed)} == {
        key: quiet[key] for key in quiet if not key.startswith(timed)
    }


def test_the_evidence_lies_between_once_the_world_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Estimated, as of a world too large to compute."""
    monkeypatch.setattr(variational, "_COMPUTABLE", 0)
    model, settings = grid(exact=True)
    told = logged(model)
    settings |= {"model_updates": 50, "every": 1_000, "length": 6, "count": 64}
    settings |= {"model_settings": {"hidden": (64,)}}
    model.learn(12_000, callback=RecallTraces(**settings))
    assert told["recall/forward_nll"] < 0.4
    assert told["recall/bound"] < told["recall/log_evidence"] - 1
    assert told["recall/bound_upper"] > told["recall/log_evidence"] + 0.5


class Drawn(gymnasium.Env[Any, Any]):
    """States are drawn anew at each step, whatever is done."""

    observation_space: Any = spaces.Box(-10, 10, (1,))
    action_space: Any = spaces.Box(-1, 1, (3,))

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return self.rng.normal(size=1).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        state = self.rng.normal(size=1).astype(np.float32)
        return state, float(state[0]), False, self.count == 400, {}


def bounds_at_the_edge() -> dict[str, float]:
    """Beside SAC whose actions come near their bounds: some that are recalled are clipped."""
    how: dict[str, Any] = {"train_freq": 300, "policy_kwargs": {"net_arch": [8]}}
    model = SAC("MlpPolicy", Drawn(), seed=0, device="cpu", learning_rate=1e-12, **how)
    for head, bias in ((model.actor.mu, 2.0), (model.actor.log_std, 0.0)):
        head.weight.data.zero_()
        head.bias.data.fill_(bias)
    told = logged(model)
    settings = {"hidden": (16,), "support": None, "learn_action_variance": True}
    asked: dict[str, Any] = {"model_settings": settings | {"learning_rate": 0.01}}
    asked |= {"trajectories": 1.0, "states": 1.0, "model_updates": 150, "imitation_updates": 0}
    asked |= {"length": 2, "count": 256, "start": 700, "every": 700, "targets_from": "reward"}
    model.learn(1_200, callback=RecallTraces(**asked, diagnostics=True))
    return told


def test_what_was_clipped_is_no_part_of_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    told = bounds_at_the_edge()
    assert np.isfinite(told["recall/bound"])
    assert told["recall/bound"] < told["recall/log_evidence"] < told["recall/bound_upper"]
    monkeypatch.setattr(diagnostics.EstimatedDiagnostics, "_drawn", lambda _, traces: traces)
    assert bounds_at_the_edge()["recall/bound"] > 0, "a bound on a log probability"


def test_the_forward_model_takes_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variational, "_COMPUTABLE", 0)
    told = []
    for seed in (3, 4, 3):
        model, settings = grid(exact=True)
        asked = {"seed": seed, "device": "cpu", "hidden": (8,)}
        recall = RecallTraces(**settings, model_settings=asked)
        model.learn(STEPS, callback=recall)
        assert isinstance(recall._diagnostics, diagnostics.EstimatedDiagnostics)
        assert recall._diagnostics.forward.config.hidden == (8,)
        told.append(recall.logger.name_to_value["recall/forward_nll"])
    assert told[0] == told[2] != told[1]


def test_in_a_finite_world_the_bounds_in_the_log_are_exact(tmp_path: Path) -> None:
    """Against paths that are played: of the policy, and of the model."""
    model, settings = grid(exact=True)
    told, recall = logged(model), RecallTraces(**settings)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    exact, length = recall.backtracking_model, recall.config.length
    assert isinstance(exact, ExactBacktrackingModel)
    steps = recall.buffer.best(recall.config.trajectories)
    every, ranked = recall.buffer.best(), recall._worth(steps)
    top = worthy(ranked, recall.config.targets)
    entered = every.transitions.next_state
    event = np.unique(entered[recall._worth(every) >= ranked[top].min() - 1e-6])
    visited = np.bincount(every.transitions.state, minlength=exact.num_states) + 1
    all_states = np.arange(exact.num_states)
    policy = model.policy.get_distribution(torch.as_tensor(all_states)).distribution.probs
    policy = policy.detach().numpy().astype(float)
    recall.recall()  # of the policy of now, which it moves only afterwards
    assert told["recall/bound"] <= told["recall/log_evidence"] <= told["recall/bound_upper"]
    assert "recall/forward_nll" not in told

    rng, table = np.random.default_rng(0), exact.table
    state = rng.choice(exact.num_states, size=200_000, p=visited / visited.sum())
    alive = np.ones(len(state), bool)
    for _ in range(length):
        alive &= (table.valid & ~table.terminal)[0, state]
        draws = rng.random(len(state))[:, None]
        action = np.minimum((policy[state].cumsum(axis=1) < draws).sum(axis=1), 3)
        outcome = table.probability[0, state, action].cumsum(axis=1) < rng.random((len(state), 1))
        k = np.minimum(outcome.sum(axis=1), table.num_outcomes - 1)
        state = np.where(alive, table.next_state[0, state, action, k], state)
    reached = alive & np.isin(state, event)
    assert told["recall/log_evidence"] == pytest.approx(np.log(reached.mean()), abs=0.05)

    ends = rng.choice(steps.transitions.next_state[top], size=20_000)
    traces = exact.sample_traces(ends, length, 1, rng=rng)
    shares = np.bincount(steps.transitions.next_state[top], minlength=exact.num_states) / len(top)
    whole = traces.valid.all(axis=1)
    path, done = traces.states[whole], traces.actions[whole]
    log_p = np.log(visited / visited.sum())[path[:, -1]]
    log_q = np.log(shares[path[:, 0]]) + traces.log_prob[whole].sum(axis=1)
    for k in range(length):
        before, after = path[:, k + 1], path[:, k]
        leads = table.next_state[0, before, done[:, k]] == after[:, None]
        step = (table.probability[0, before, done[:, k]] * leads).sum(axis=1)
        log_p += np.log(policy[before, done[:, k]] * step)
    lower = (log_p - log_q).mean() + np.log(whole.mean())
    assert told["recall/bound"] == pytest.approx(lower, abs=0.05)
    recall.save(tmp_path / "recall.pt")
    RecallTraces(**settings).load(tmp_path / "recall.pt").init_callback(model)
    with pytest.raises(ValueError, match="which does not learn; drop model_updates"):
        RecallTraces(**(settings | {"model_updates": 3}))


@pytest.mark.parametrize("targets", ["reward", "return", "advantage", "states", "function"])
def test_traces_may_end_where_asked(targets: str) -> None:
    upright = np.array([[1, 0, 0], [0.9, 0.4, 0.1]], np.float32)
    asked: Any = {"states": upright, "function": lambda count, rng: upright[[0] * count]}
    *_, told = trained("PPO", targets_from=asked.get(targets, targets))
    assert np.isfinite(told["recall/bound"])
    assert told["recall/log_evidence"] <= 0


def test_the_forward_model_is_saved_and_goes_on(tmp_path: Path) -> None:
    model, recall, _ = trained("PPO")
    recall.save(tmp_path / "recall.pt")
    again = RecallTraces(**WITH).load(tmp_path / "recall.pt")
    again.init_callback(model)
    assert recall.buffer is not None
    steps = recall.buffer.best().transitions
    first, second = (
        one._diagnostics.forward.log_prob(steps.state, steps.action, steps.next_state)  # type: ignore[union-attr]
        for one in (recall, again)
    )
    np.testing.assert_array_equal(first, second)
    told = logged(model)
    after = []
    for one in (recall, again):  # the policy moves between, so the bounds do too
        one.recall()
        after.append(told["recall/forward_nll"])
    assert after[0] == after[1]
    without = RecallTraces(**FEW).load(tmp_path / "recall.pt")
    without.init_callback(model)
    without.save(tmp_path / "without.pt")
    RecallTraces(**WITH).load(tmp_path / "without.pt").init_callback(model)


def test_policies_without_a_density_are_refused_at_the_start() -> None:
    deterministic = DDPG("MlpPolicy", CONTINUOUS, device="cpu")
    for model in (made("TD3", CONTINUOUS), made("DQN", DISCRETE), deterministic):
        before, recall = weights(model), RecallTraces(**WITH)
        with pytest.raises(TypeError, match=r"has no density .* use A2C, PPO, TRPO or SAC"):
            model.learn(STEPS, callback=recall)
        assert recall.buffer is None
        assert same(before, weights(model))
    model = made("PPO", CONTINUOUS)
    forward = ForwardModel(model.observation_space, learner_of(model).action_space)
    with pytest.raises(TypeError, match="traces come from a ForwardModel, and diagnostics say"):
        model.learn(STEPS, callback=RecallTraces(**{**WITH, "model_settings": None}, model=forward))
    for mean in ("mean_actions", "mean_changes"):
        with pytest.raises(ValueError, match="diagnostics need sampled actions and changes; drop"):
            RecallTraces(**WITH, **{mean: True})


@pytest.mark.parametrize("name", ["A2C", "PPO", "TRPO"])
def test_log_prob_is_that_of_the_policy(name: str) -> None:
    rng = np.random.default_rng(0)
    for task in (DISCRETE, CONTINUOUS):
        model = made(name, task)
        observation = rng.normal(size=(9, *model.observation_space.shape)).astype(np.float32)
        action = np.stack([model.action_space.sample() for _ in range(9)])
        seen, taken = torch.as_tensor(observation), torch.as_tensor(action)
        expected = model.policy.evaluate_actions(seen, taken)[1].detach().numpy()
        found = learner_of(model).log_prob(observation, action)
        assert found is not None
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_density_of_sac_is_over_the_actions_of_the_environment() -> None:
    """Pendulum's go from −2 to 2: it must be a density there and not from −1 to 1."""
    actions = np.linspace(-2, 2, 4_002)[1:-1, None]
    observation = np.zeros((len(actions), 3), np.float32)
    density = learner_of(made("SAC", CONTINUOUS)).log_prob(observation, actions)
    assert density is not None
    assert np.trapezoid(np.exp(density), actions[:, 0]) == pytest.approx(1, abs=0.01)


def test_runs_are_the_steps_of_one_trajectory_in_order() -> None:
    """Three environments write their own step number, round and round a small buffer."""
    rng, buffer = np.random.default_rng(0), TrajectoryBuffer(60, 3, np.zeros(2), np.zeros(()), 0.9)
    episode, clock = np.arange(3.0), np.zeros(3)
    for _ in range(47):
        over = rng.random(3) < 0.2
        state, after = np.stack([episode, clock], 1), np.stack([episode, clock + 1], 1)
        buffer.add(state, clock, after, np.zeros(3), over)
        clock = np.where(over, 0, clock + 1)
        episode = np.where(over, episode + 3, episode)
    steps = buffer.best()
    there = steps.transitions.state
    kept = {(int(number), int(step)) for number, step in there}
    for length in (1, 3, 6):
        runs = there[steps.runs(length)].astype(int)
        found = {(int(run[0, 0]), int(run[0, 1])) for run in runs}
        expected = {(e, t) for e, t in kept if all((e, t + k) in kept for k in range(length))}
        assert len(runs) == len(found)
        assert found == expected
        for run in runs:
            assert set(run[:, 0]) == {run[0, 0]}
            np.testing.assert_array_equal(run[:, 1], run[0, 1] + np.arange(length))
    assert steps.runs(50).shape == (0, 50)


def test_densities_are_those_of_what_was_drawn() -> None:
    truth = multivariate_normal([5, -300], [[4, 30], [30, 900]])
    drawn = truth.rvs(20_000, random_state=0)
    box = spaces.Box(-np.inf, np.inf, (2,))
    found = log_density(drawn, box)(drawn[:100])
    np.testing.assert_allclose(found, truth.logpdf(drawn[:100]), atol=0.1)
    few = log_density(drawn[:1], box, scale=np.array([2.0, 30.0]))
    assert few(drawn[:1])[0] > few(drawn[1:2])[0]
    assert np.isfinite(few(drawn[:5])).all()
    still = np.column_stack([drawn[:, 0], np.full(len(drawn), 7.0)])
    assert np.isfinite(log_density(still, box)(still[:5])).all()
    apart = np.column_stack([drawn[:, 0] * 1e6, drawn[:, 0] * 1e6])
    assert np.isfinite(log_density(apart, box, scale=np.ones(2))(apart[:5])).all()
    shares = log_density(np.array([0, 0, 2]), spaces.Discrete(4))(np.arange(4))
    np.testing.assert_allclose(np.exp(shares), np.array([3, 1, 2, 1]) / 7)
    with pytest.raises(ValueError, match="states holds none"):
        log_density(drawn[:0], box)
