"""How learned models are trained, saved and unrolled: gradients, resuming, traces, refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from delegate.recall import (
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    RecallModelConfig,
    Transitions,
)
from delegate.recall.codes import GridState
from delegate.recall.saving import write

ACTIONS = Box(-1, 1, (2,))
STATES = Box(-np.inf, np.inf, (3,))
SMALL: dict[str, Any] = {"hidden": (8, 8)}


def vectors(count: int = 64, seed: int = 0, **extra: int) -> Transitions:
    """Transitions of STATES and ACTIONS; `extra` gives the sizes of goals and layouts."""
    rng = np.random.default_rng(seed)
    state = rng.normal(3, 2, (count, 3))
    action = rng.uniform(-1, 1, (count, 2))
    more = {name: rng.normal(size=(count, size)) for name, size in extra.items()}
    return Transitions(state, action, state + 0.1 * rng.normal(size=(count, 3)), **more)


def cells(count: int = 64, seed: int = 0) -> Transitions:
    """Steps to the left or right in a corridor of 6."""
    rng = np.random.default_rng(seed)
    state, action = rng.integers(6, size=count), rng.integers(2, size=count)
    return Transitions(state, action, np.clip(state + 2 * action - 1, 0, 5))


CASES = {
    "vectors": (STATES, ACTIONS, {}, vectors()),
    "deviations learned": (STATES, ACTIONS, {"learn_action_variance": True}, vectors()),
    "mixture": (STATES, ACTIONS, {"components": 3}, vectors()),
    "deviation from input": (STATES, ACTIONS, {"state_variance_from_input": True}, vectors()),
    "ensemble": (STATES, ACTIONS, {"members": 3, "components": 2}, vectors()),
    "goal and layout": (
        STATES,
        ACTIONS,
        {"goal_size": 2, "layout_size": 4},
        vectors(goal=2, layout=4),
    ),
    "discrete": (Discrete(6), Discrete(2), {"members": 2}, cells()),
    "grid": (Discrete(6), Discrete(2), {"grid": (1, 6)}, cells()),
}
EVERY_CASE = pytest.mark.parametrize("case", CASES)


def made(case: str, **settings: Any) -> tuple[LearnedBacktrackingModel, Transitions]:
    states, actions, own, seen = CASES[case]
    return LearnedBacktrackingModel(states, actions, **{**SMALL, **own, **settings}), seen


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


def test_a_trace_is_recalled_by_one_member_throughout() -> None:
    model, seen = made("ensemble", support=None, components=1, members=2)
    model.observe(seen.state, seen.action, seen.next_state)
    values = model._parameters.values
    for name in ("state.2.weight", "state.2.bias"):
        values[name].zero_()
    values["state.2.bias"][0], values["state.2.bias"][1] = -1.0, 1.0
    values["state.log_std"].fill_(-7)
    traces = model.sample_traces(seen.state[:1], 6, 40, rng=0)
    ways = np.sign(np.diff(traces.states[:, :, 0], axis=1))
    assert (ways == ways[:, :1]).all()
    assert set(ways[:, 0]) == {-1, 1}


@EVERY_CASE
def test_traces_carry_their_own_log_prob(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 20, rng=0)
    given = [None if x is None else x[:3] for x in (seen.goal, seen.layout)]
    traces = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=1)
    assert len(traces) == 15
    discrete = isinstance(model.state_space, Discrete)
    assert traces.states.dtype == (np.int32 if discrete else np.float32)
    assert traces.actions.dtype == traces.states.dtype
    np.testing.assert_allclose(
        traces.states[:, 0], np.repeat(seen.next_state[:3], 5, 0).astype(traces.states.dtype)
    )
    for k in range(4):
        rows = traces.valid[:, k]
        asked = model.log_prob(
            traces.states[rows, k + 1],
            traces.actions[rows, k],
            traces.states[rows, k],
            *(None if x is None else np.repeat(x, 5, 0)[rows] for x in given),
        )
        np.testing.assert_allclose(traces.log_prob[rows, k], asked, atol=2e-3)
        for action in traces.actions[rows, k]:
            assert model.action_space.contains(action)
    again = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=1)
    np.testing.assert_array_equal(again.states, traces.states)
    other = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=2)
    assert (other.states != traces.states).any()


def test_traces_stay_where_there_were_data() -> None:
    model, seen = made("vectors", support=2.0)
    model.fit(seen, 20, rng=0)
    lengths = {}
    for support in (2.0, None):
        model, _ = made("vectors", support=support)
        model.fit(seen, 20, rng=0)
        model._parameters.values["state.2.bias"].fill_(3.0)
        traces = model.sample_traces(seen.state[:4], 200, 5, rng=0)
        valid = traces.valid
        assert (valid[:, 1:] <= valid[:, :-1]).all(), "once over, a trace stays over"
        lengths[support] = valid.sum(1)
        np.testing.assert_array_equal(traces.states[:, 1:][~valid], 0)
        np.testing.assert_array_equal(traces.actions[~valid], 0)
        np.testing.assert_array_equal(traces.log_prob[~valid], 0)
        if support:
            far = np.abs(traces.states[:, 1:] - seen.next_state.mean(0)) / seen.next_state.std(0)
            assert far[valid].max() <= 2.0 + 1e-4
    assert lengths[2.0].max() < 200
    assert (lengths[None] == 200).all()


def test_mean_actions_do_not_depend_on_chance() -> None:
    model, seen = made("vectors")
    model.fit(seen, 20, rng=0)
    traces = model.sample_traces(seen.state[:2], 1, 10, rng=0, mean_actions=True)
    first = traces.actions[:, 0].reshape(2, 10, 2)
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1], first.shape))
    drawn = model.sample_traces(seen.state[:2], 1, 10, rng=0).actions[:, 0].reshape(2, 10, 2)
    assert drawn.std(1).min() > 0.05


def test_mean_changes_follow_from_the_action_alone() -> None:
    model, seen = made("vectors")
    model.fit(seen, 20, rng=0)
    ends = seen.state[:2]
    found = {
        mean: model.sample_traces(ends, 1, 10, rng=0, mean_actions=True, mean_changes=mean)
        for mean in (True, False)
    }
    spread = {mean: traces.states[:, 1].reshape(2, 10, -1).std(1) for mean, traces in found.items()}
    assert spread[True].max() < 1e-6
    assert spread[False].min() > 1e-3
    drawn = model.sample_traces(ends, 1, 10, rng=0, mean_changes=True)
    assert drawn.actions[:, 0].reshape(2, 10, -1).std(1).min() > 0.05
    # The likeliest change of the same action cannot be less likely than one that was drawn.
    other = model.sample_traces(ends, 1, 10, rng=0)
    np.testing.assert_array_equal(drawn.actions[:, 0], other.actions[:, 0])
    likely = model.log_prob(drawn.states[:, 1], drawn.actions[:, 0], drawn.states[:, 0])
    assert (
        likely >= model.log_prob(other.states[:, 1], other.actions[:, 0], other.states[:, 0])
    ).all()


@EVERY_CASE
def test_the_state_before_a_given_action_is_the_one_recalled(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 20, rng=0)
    some = seen.take(np.arange(20))
    given = {"goal": some.goal, "layout": some.layout}
    traces = model.sample_traces(some.next_state, 1, 1, **given, rng=0, mean_changes=True)
    valid = traces.valid[:, 0]
    assert valid.any()
    found = model.state_before(some.next_state, traces.actions[:, 0], **given, rng=0)
    if model.config.members == 1:  # otherwise another network may say it
        np.testing.assert_array_equal(found[valid], traces.states[valid, 1])
    else:
        assert found.dtype.kind == seen.state.dtype.kind
        assert found.shape == some.state.shape
    if isinstance(model.state_space, Box):  # the corridor is hardly known after 20 updates
        other = model.state_before(some.next_state, np.roll(some.action, 1, 0), **given, rng=0)
        assert not np.array_equal(found, other)
    with pytest.raises(ValueError, match="action has shape"):
        model.state_before(some.next_state, some.action[:3], **given)


def test_imagined_mean_changes_do_not_depend_on_chance() -> None:
    _, seen = made("vectors")
    model = ForwardModel(
        Box(-np.inf, np.inf, seen.state.shape[1:]), Box(-9, 9, seen.action.shape[1:])
    )
    model.fit(seen, 20, rng=0)

    def still(states: np.ndarray) -> np.ndarray:
        return np.zeros((len(states), *seen.action.shape[1:]), np.float32)

    for mean in (True, False):
        traces = model.sample_traces(seen.state[:1], still, 1, 10, rng=0, mean_changes=mean)
        assert (traces.states[:, 0].std(0).max() < 1e-6) == mean


@pytest.mark.parametrize("kind", [RandomBacktrackingModel, ForwardModel])
@pytest.mark.parametrize("grid", [None, (1, 6)])
def test_the_ablations_do_discrete_worlds_too(kind: Any, grid: Any) -> None:
    """In a corridor the earlier state and the action say the later one, but for the first cell."""
    seen = cells(2000)
    model = kind(Discrete(6), Discrete(2), hidden=(32,), learning_rate=1e-2, grid=grid)
    model.fit(seen, 300, rng=0)
    if kind is ForwardModel:
        assert model.log_prob(seen.state, seen.action, seen.next_state).min() > -0.2
        traces = model.sample_traces(np.array([1]), lambda s: np.ones(len(s), int), 3, 4, rng=0)
        np.testing.assert_array_equal(traces.states, [[4, 3, 2, 1]] * 4)
        np.testing.assert_array_equal(traces.actions, 1)
    else:
        inner = seen.take((seen.next_state > 0) & (seen.next_state < 5))
        log_prob = model.log_prob(inner.state, inner.action, inner.next_state)
        np.testing.assert_allclose(log_prob, np.log(0.5), atol=0.2)
        traces = model.sample_traces(np.array([3]), 1, 2000, rng=0)
        assert traces.actions.mean() == pytest.approx(0.5, abs=0.05)
    for k in range(traces.actions.shape[1]):
        asked = model.log_prob(traces.states[:, k + 1], traces.actions[:, k], traces.states[:, k])
        np.testing.assert_allclose(traces.log_prob[:, k], asked, atol=1e-5)


def test_a_grid_never_recalls_what_lies_outside() -> None:
    code = GridState(2, 3, 1, torch.device("cpu"))
    anchor = torch.tensor([0, 4])
    np.testing.assert_array_equal(
        code.choices(anchor), [[True, False, True, True, False], [True, True, True, False, True]]
    )
    every = torch.arange(6)
    reached = {int(a): code.target(a.expand(6), every).tolist() for a in anchor}
    assert reached == {0: [0, 2, -1, 3, -1, -1], 4: [-1, 1, -1, 4, 0, 2]}
    layout = torch.tensor([[1.0, 2, 3, 4, 5, 6]] * 2)
    seen = code.features(anchor, layout)
    assert seen.shape == (2, code.width)
    np.testing.assert_array_equal(seen[1, 6:15].view(3, 3), [[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(seen[1, 15:].view(3, 3), [[1, 2, 3], [4, 5, 6], [0, 0, 0]])
    np.testing.assert_array_equal(seen[0, 15:].view(3, 3), [[0, 0, 0], [0, 1, 2], [0, 4, 5]])
    model, corridor = made("grid")
    model.fit(corridor, 5, rng=0)
    assert model.log_prob([0], [1], [4])[0] == -np.inf
    np.testing.assert_array_equal(model.sample_traces([0], 3, 50, rng=0).states >= 0, True)


@EVERY_CASE
def test_training_goes_on_from_a_file_bit_by_bit(case: str, tmp_path: Path) -> None:
    model, seen = made(case)
    model.fit(seen, 5)
    model.save(tmp_path / "model.pt")
    onward = model.fit(seen, 5)
    other, _ = made(case, seed=9)
    other.load(tmp_path / "model.pt")
    np.testing.assert_array_equal(other.fit(seen, 5), onward)
    given = [None if x is None else x[:1] for x in (seen.goal, seen.layout)]
    end = seen.state[:1]
    np.testing.assert_array_equal(
        other.sample_traces(end, 3, 4, *given).states, model.sample_traces(end, 3, 4, *given).states
    )
    assert os.listdir(tmp_path) == ["model.pt"]


def test_forgetting_the_moments_of_the_optimiser_is_seen(tmp_path: Path) -> None:
    """The control of the test above."""
    model, seen = made("vectors")
    model.fit(seen, 5)
    model.save(tmp_path / "model.pt")
    onward = model.fit(seen, 5)
    model.load(tmp_path / "model.pt")
    model._optimiser.state[model._parameters.vector]["exp_avg"].zero_()
    assert (model.fit(seen, 5) != onward).any()


def fingerprint(model: LearnedBacktrackingModel) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model._tensors().values())


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"hidden": (8, 9)}, "hidden is .8, 9., and here it is .8, 8."),
        ({"members": 2}, "members is 2, and here it is 1"),
        ({"goal_size": 1}, "goal_size is 1, and here it is 0"),
    ],
)
def test_a_file_of_another_model_is_refused(
    saved: dict[str, Any], message: str, tmp_path: Path
) -> None:
    LearnedBacktrackingModel(STATES, ACTIONS, **{**SMALL, **saved}).save(tmp_path / "m")
    model, _ = made("vectors")
    before = fingerprint(model)
    with pytest.raises(ValueError, match=message):
        model.load(tmp_path / "m")
    assert fingerprint(model) == before


def test_a_file_of_other_spaces_kinds_or_shapes_is_refused(tmp_path: Path) -> None:
    model, _ = made("vectors")
    before = fingerprint(model)
    for other, message in (
        (LearnedBacktrackingModel(Discrete(3), ACTIONS, **SMALL), "state_space is Discrete of 3"),
        (RandomBacktrackingModel(STATES, ACTIONS, **SMALL), "model is RandomBack"),
    ):
        other.save(tmp_path / "m")
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    stream = {"observed": True, "rng": model._rng.bit_generator.state}
    good = model._tensors()
    for name, bad, message in (
        ("parameter state.0.bias", torch.zeros(2), r"has shape \(2,\), and here \(1, 1, 8\)"),
        ("parameter state.0.bias", torch.full((1, 1, 8), torch.nan), "not finite"),
        ("normaliser change mean", torch.zeros(3), "float32"),
        ("left over", torch.zeros(1), r"left over has shape \(1,\), and here None"),
    ):
        write(tmp_path / "m", model._description(), stream, {**good, name: bad})
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    write(tmp_path / "m", model._description(), {"observed": True, "rng": {}}, good)
    with pytest.raises(ValueError, match="no state of a random stream"):
        model.load(tmp_path / "m")
    assert fingerprint(model) == before


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    model, _ = made("vectors")
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"cos\nsystem\n(S'true'\ntR."):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(ValueError, match="or damaged"):
            model.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "none")


def test_a_save_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = made("vectors")
    model.save(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def full(content: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        model.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


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
