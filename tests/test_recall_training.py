"""How learned models are trained: gradients, ensembles, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from recall_cases import ACTIONS, CASES, EVERY_CASE, SMALL, STATES, fingerprint, made, vectors

from delegate.recall import (
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    RecallModelConfig,
    Transitions,
)


def plain_loss(model: LearnedBacktrackingModel, seen: Transitions) -> tuple[float, torch.Tensor]:
    """The loss of an update and its gradient, by torch's own layers, densities and autograd."""
    vector = model._parameters.vector.detach().clone().requires_grad_()
    sizes = [value.numel() for value in model._parameters.values.values()]
    values = {
        name: part.view(value.shape)
        for (name, value), part in zip(
            model._parameters.values.items(), vector.split(sizes), strict=True
        )
    }
    encoded = model._encode(seen)
    members, context = model.config.members, model._context
    total = torch.zeros(())
    for m in range(members):
        for name, inputs, target, activation in (
            ("state", encoded.inputs[0], encoded.state[0], torch.relu),
            ("action", encoded.inputs[0, :, :context], encoded.action[0], torch.tanh),
        ):
            hidden = inputs
            for layer in range(3):
                weight, bias = (values[f"{name}.{layer}.{kind}"][m] for kind in ("weight", "bias"))
                hidden = hidden @ weight + bias
                hidden = activation(hidden) if layer < 2 else hidden
            if not target.is_floating_point():
                if name == "state" and encoded.choices is not None:
                    hidden = hidden.masked_fill(~encoded.choices[0], -torch.inf)
                total = total + torch.nn.functional.cross_entropy(hidden, target)
                continue
            count = model.config.components if name == "state" else 1
            size = target.shape[1]
            means = hidden[:, : count * size].view(-1, count, size)
            log_std = torch.zeros(count, size)
            if f"{name}.log_std" in values:
                log_std = values[f"{name}.log_std"][m, 0]
            elif name == "state":
                raw = hidden[:, -count * size :].view(-1, count, size)
                upper = 3 - torch.nn.functional.softplus(3 - raw)
                log_std = -7 + torch.nn.functional.softplus(upper + 7)
            logits = hidden[:, count * size : count * size + count] if count > 1 else None
            normal = torch.distributions.Independent(
                torch.distributions.Normal(means, log_std.exp().expand(means.shape)), 1
            )
            weights = torch.zeros(len(means), 1) if logits is None else logits
            mixture = torch.distributions.MixtureSameFamily(
                torch.distributions.Categorical(logits=weights), normal
            )
            total = total - mixture.log_prob(target).mean()
    (gradient,) = torch.autograd.grad(total, vector)
    return float(total.detach()) / members + model._log_volume, gradient


@EVERY_CASE
def test_an_update_follows_the_gradient_of_a_plain_implementation(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 5, rng=0)
    loss, gradient = plain_loss(model, seen)
    assert model.update(seen) == pytest.approx(loss, rel=1e-5, abs=1e-5)
    written = model._parameters.vector.grad
    assert written is not None
    assert gradient.abs().max() > 1e-2
    torch.testing.assert_close(written, gradient, rtol=1e-4, atol=1e-5)


@EVERY_CASE
def test_an_update_returns_what_log_prob_says(case: str) -> None:
    model, seen = made(case, members=1)
    model.observe(seen.state, seen.action, seen.next_state, seen.goal, seen.layout)
    given = (seen.goal, seen.layout)
    before = model.log_prob(seen.state, seen.action, seen.next_state, *given)
    assert before.dtype == np.float64
    assert model.update(seen) == pytest.approx(-before.mean(), rel=1e-5)


def test_so_it_does_where_actions_are_drawn_at_random() -> None:
    for actions in (Box(-1, 3, (1,)), Discrete(3)):
        model = RandomBacktrackingModel(STATES, actions, **SMALL)
        actions.seed(0)
        action = np.array([actions.sample() for _ in range(64)])
        rng = np.random.default_rng(0)
        state, after = rng.normal(size=(2, 64, *STATES.shape))
        model.observe(state, action, after)
        before = model.log_prob(state, action, after)
        found = model.update(Transitions(state, action, after))
        assert found == pytest.approx(-before.mean(), rel=1e-5)


@EVERY_CASE
def test_rows_do_not_influence_each_other(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 5, rng=0)
    columns = [seen.state, seen.action, seen.next_state, seen.goal, seen.layout]
    crowd = model.log_prob(*columns)
    alone = [
        model.log_prob(*(None if x is None else x[row : row + 1] for x in columns))[0]
        for row in range(8)
    ]
    np.testing.assert_allclose(alone, crowd[:8], rtol=1e-5, atol=1e-5)


@EVERY_CASE
def test_same_seed_same_model(case: str) -> None:
    states, actions, own, seen = CASES[case]
    losses = [
        LearnedBacktrackingModel(states, actions, seed=seed, **{**SMALL, **own}).fit(seen, 8)
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert (losses[0] != losses[2]).any()


def test_what_is_not_held_ready_is_encoded_as_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (1 << 25, 0):
        monkeypatch.setattr("delegate.recall.learning._ENCODED_AT_ONCE", limit)
        model, seen = made("ensemble")
        found.append(model.fit(seen, 6, 16, rng=0))
    np.testing.assert_array_equal(*found)


@EVERY_CASE
def test_steps_drawn_at_once_are_those_drawn_one_by_one(case: str) -> None:
    at_once, seen = made(case)
    one_by_one, _ = made(case)
    one_by_one.observe(seen.state, seen.action, seen.next_state, seen.goal, seen.layout)
    rng = np.random.default_rng(5)
    expected = [one_by_one.fit(seen, 1, 16, rng)[0] for _ in range(150)]
    np.testing.assert_array_equal(at_once.fit(seen, 150, 16, np.random.default_rng(5)), expected)
    assert fingerprint(at_once) == fingerprint(one_by_one)


def test_many_rows_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = made("ensemble")
    whole = model.log_prob(seen.state, seen.action, seen.next_state)
    monkeypatch.setattr("delegate.recall.learning._SCORED_AT_ONCE", 10)
    parts = model.log_prob(seen.state, seen.action, seen.next_state)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    assert model.log_prob(seen.state[:0], seen.action[:0], seen.next_state[:0]).shape == (0,)


def test_a_density_of_an_ensemble_is_the_mean_of_its_members() -> None:
    whole, seen = made("ensemble")
    whole.fit(seen, 30, rng=0)
    density = []
    for member in range(3):
        one, _ = made("ensemble", members=1)
        one.observe(seen.state, seen.action, seen.next_state)
        for name, value in one._parameters.values.items():
            value.copy_(whole._parameters.values[name][member : member + 1])
        density.append(np.exp(one.log_prob(seen.state, seen.action, seen.next_state)))
    assert np.abs(density[0] / density[1] - 1).max() > 0.01, "the members must differ"
    together = np.exp(whole.log_prob(seen.state, seen.action, seen.next_state))
    np.testing.assert_allclose(together, np.mean(density, 0), rtol=1e-5)


def spoilt(name: str, value: Any) -> Transitions:
    good = vectors(8)
    columns = {"state": good.state, "action": good.action, "next_state": good.next_state}
    return Transitions(**{**columns, name: value(columns[name].copy())})


def put(value: float) -> Any:
    def spoil(column: np.ndarray) -> np.ndarray:
        column[3, 1] = value
        return column

    return spoil


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spoilt("next_state", put(np.nan)), "row 3: next_state holds nan in coordinate 1; leave"),
        (spoilt("action", put(np.inf)), "row 3: action holds inf in coordinate 1"),
        (spoilt("state", put(1e200)), "row 3: state holds 1e.200 in coordinate 1"),
        (spoilt("state", lambda x: x[:, :2]), r"state has shape \(8, 2\); give \[T, 3\]"),
        (spoilt("action", lambda x: x[:5]), r"action has shape \(5, 2\); give \[8, 2\]"),
        (spoilt("action", lambda x: x.astype(str)), "action is <U32; give numbers"),
        (vectors(0), "no transitions"),
        (vectors(8, goal=2), "goal is given and goal_size is 0"),
    ],
)
def test_what_cannot_be_learned_from_changes_nothing(bad: Transitions, message: str) -> None:
    model, seen = made("vectors")
    model.fit(seen, 3)
    before, rng = fingerprint(model), model._rng.bit_generator.state
    for ask in (model.update, lambda bad: model.fit(bad, 3)):
        with pytest.raises(ValueError, match=message):
            ask(bad)
    assert fingerprint(model) == before
    assert model._rng.bit_generator.state == rng


def test_a_density_that_overflows_changes_nothing() -> None:
    model, seen = made("vectors")
    model.fit(seen, 3)
    model._parameters.values["state.log_std"].fill_(-7)
    model._parameters.values["state.2.weight"].fill_(1e3)
    before = fingerprint(model)
    far = Transitions(seen.state, seen.action, np.full((64, 3), 9e14))
    with pytest.raises(FloatingPointError, match="leave out those far from all others"):
        model.update(far)
    assert fingerprint(model) == before


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: made("discrete")[0].log_prob([6], [0], [0]),
            "row 0: state 6 is not there; give",
        ),
        (lambda: made("discrete")[0].log_prob([0], [0], [-1]), "row 0: next_state -1 is not there"),
        (lambda: made("discrete")[0].log_prob([0.5], [0], [0]), "state is float64; give integers"),
        (lambda: made("vectors")[0].fit(vectors(), 3, 0), "batch_size is 0; give 1 or more"),
        (lambda: made("vectors")[0].fit(vectors(), -1), "steps is -1; give 0 or more"),
        (lambda: made("discrete")[0].sample_traces([7], 1, 1), "row 0: end_state 7"),
        (lambda: made("vectors")[0].sample_traces(np.zeros(3), 1, 1), r"give \[T, 3\]"),
        (lambda: made("vectors")[0].sample_traces(np.zeros((1, 3)), -1, 1), "length is -1"),
        (lambda: made("vectors")[0].sample_traces(np.zeros((1, 3)), 1, -1), "count is -1"),
        (
            lambda: made("goal and layout")[0].sample_traces(np.zeros((1, 3)), 1, 1),
            "goal is missing",
        ),
        (
            lambda: made("grid")[0].update(Transitions(*np.array([[0], [0], [2]]))),
            "row 0: cells 0 and 2 are not neighbours; leave grid unset",
        ),
        (lambda: LearnedBacktrackingModel(STATES, ACTIONS, hiden=(1,)), "hiden"),
        (lambda: LearnedBacktrackingModel(STATES, ACTIONS, members=0), "members"),
        (lambda: LearnedBacktrackingModel(MultiDiscrete([2]), ACTIONS), "state_space is Multi"),
        (
            lambda: LearnedBacktrackingModel(STATES, Box(0, 1, (2, 2))),
            "a Box of one dim",
        ),
        (
            lambda: LearnedBacktrackingModel(Discrete(5), ACTIONS, grid=(2, 3)),
            r"Discrete\(6\)",
        ),
        (
            lambda: LearnedBacktrackingModel(Discrete(6), ACTIONS, grid=(2, 3), layout_size=7),
            "whole number of planes",
        ),
        (
            lambda: ForwardModel(STATES, ACTIONS).sample_traces(
                np.zeros((1, 3)), lambda s: s, 1, 1
            ),
            r"the policy's action has shape \(1, 3\); give \[1, 2\]",
        ),
    ],
)
def test_errors_name_cause_and_remedy(ask: Any, message: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        ask()


def test_single_settings_replace_those_of_a_config() -> None:
    config = RecallModelConfig(hidden=(4,), members=2)
    model = LearnedBacktrackingModel(STATES, ACTIONS, config, members=3)
    assert (model.config.hidden, model.config.members) == ((4,), 3)


def test_arrays_that_cannot_be_written_to_or_run_backwards_will_do() -> None:
    model, seen = made("vectors")
    seen = seen.take(np.arange(len(seen)))
    for column in (seen.state, seen.action, seen.next_state):
        column.flags.writeable = False
    turned = Transitions(seen.state[::-1], seen.action, seen.next_state[:, ::-1].astype("f4"))
    assert np.isfinite(model.fit(turned, 2)).all()
