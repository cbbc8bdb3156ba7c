"""How learned models are trained: densities, ensembles, precision, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from recall_cases import (
    ACTIONS,
    CASES,
    EVERY_CASE,
    SMALL,
    STATES,
    fingerprint,
    made,
    vectors,
    weights,
)
from torch.utils._python_dispatch import TorchDispatchMode

from delegate.recall import (
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    RecallModelConfig,
    Transitions,
)


def standard(values: np.ndarray) -> tuple[torch.Tensor, float]:
    """Normalised by numpy, single precision; and the log volume of a unit."""
    mean, std = values.mean(0), values.std(0)
    return torch.tensor((values - mean) / std).float(), float(np.log(std).sum())


def plain_nll(model: LearnedBacktrackingModel, seen: Transitions) -> float:
    """The mean of -log density by torch's own distributions, member by member."""
    weights, total, volume = model.state_dict(), 0.0, 0.0
    config = model.config
    if isinstance(model.state_space, Box):
        shown, _ = standard(seen.next_state)
        state, unit = standard(seen.state - seen.next_state)
        action, of_action = standard(seen.action)
        features, volume = action, unit + of_action
    else:
        shown = torch.nn.functional.one_hot(torch.tensor(seen.next_state), 6).float()
        state, action = torch.tensor(seen.state), torch.tensor(seen.action)
        features = torch.nn.functional.one_hot(action, 2).float()
    if seen.goal is not None:
        shown = torch.cat([shown, standard(seen.goal)[0], torch.tensor(seen.layout).float()], 1)
    for m in range(config.members):
        for name, inputs, target, activation in (
            ("state", torch.cat([shown, features], 1), state, torch.relu),
            ("action", shown, action, torch.tanh),
        ):
            hidden = inputs
            for layer in (0, 2, 4):
                at = f"networks.{name}.members.{m}.{layer}"
                hidden = hidden @ weights[f"{at}.weight"].T + weights[f"{at}.bias"]
                hidden = activation(hidden) if layer < 4 else hidden
            if not target.is_floating_point():
                total += float(torch.nn.functional.cross_entropy(hidden, target))
                continue
            count, size = config.components if name == "state" else 1, target.shape[1]
            means = hidden[:, : count * size].view(-1, count, size)
            log_std = weights[f"networks.{name}.log_std"][m, 0]
            logits = hidden[:, count * size :]
            normal = torch.distributions.Independent(
                torch.distributions.Normal(means, log_std.exp().expand(means.shape)), 1
            )
            mixture = torch.distributions.MixtureSameFamily(
                torch.distributions.Categorical(logits=logits), normal
            )
            total -= float(mixture.log_prob(target).mean())
    return total / config.members + volume


@pytest.mark.parametrize("case", [case for case in CASES if case != "grid"])
def test_the_density_is_that_of_a_plain_implementation(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 5, rng=0)
    expected = plain_nll(model, seen)
    assert model.update(seen) == pytest.approx(expected, rel=1e-4)
    assert plain_nll(model, seen) != pytest.approx(expected, rel=1e-4), "it has learned"


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


@EVERY_CASE
def test_a_fit_is_as_many_updates(case: str) -> None:
    """Of one member, which sees the rows that are drawn for all."""
    fitted, seen = made(case, members=1)
    updated, _ = made(case, members=1)
    updated.observe(seen.state, seen.action, seen.next_state, seen.goal, seen.layout)
    rng = np.random.default_rng(5)
    expected = [updated.update(seen.take(rng.integers(len(seen), size=16))) for _ in range(20)]
    np.testing.assert_array_equal(fitted.fit(seen, 20, 16, np.random.default_rng(5)), expected)
    assert weights(fitted) == weights(updated)


def test_each_member_sees_batches_of_its_own() -> None:
    """As two models of one member would, of which each starts from its weights."""
    seen = vectors()
    whole = LearnedBacktrackingModel(STATES, ACTIONS, **SMALL, members=2)
    whole.observe(seen.state, seen.action, seen.next_state)
    alone = []
    for m in range(2):
        one = LearnedBacktrackingModel(STATES, ACTIONS, **SMALL)
        one.load_state_dict(member_of(whole, m))
        alone.append(one)
    whole.fit(seen, 1, 16, rng=4)
    rows = np.random.default_rng(4).integers(len(seen), size=32)
    for m, one in enumerate(alone):
        one.update(seen.take(rows[16 * m : 16 * (m + 1)]))
        trained = member_of(whole, m)
        for name, value in one.state_dict().items():
            if name != "rng":
                torch.testing.assert_close(value, trained[name], rtol=1e-4, atol=1e-6)


def member_of(model: LearnedBacktrackingModel, member: int) -> dict[str, torch.Tensor]:
    """The state of a model of that member alone."""
    found = {}
    for name, value in model.state_dict().items():
        if ".log_std" in name and not name.endswith("step"):
            found[name] = value[member : member + 1]
        elif f".members.{member}." in name:
            found[name.replace(f".members.{member}.", ".members.0.")] = value
        elif ".members." not in name:
            found[name] = value
    return found


def test_a_density_of_an_ensemble_is_the_mean_of_its_members() -> None:
    whole, seen = made("ensemble")
    whole.fit(seen, 30, rng=0)
    density = []
    for member in range(3):
        one, _ = made("ensemble", members=1)
        one.load_state_dict(member_of(whole, member))
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
    before = fingerprint(model)
    for ask in (model.update, lambda bad: model.fit(bad, 3)):
        with pytest.raises(ValueError, match=message):
            ask(bad)
    assert fingerprint(model) == before, "the random stream is part of it"


def test_a_density_that_overflows_changes_nothing() -> None:
    model, seen = made("vectors")
    model.fit(seen, 3)
    state: Any = model.networks["state"]
    state.log_std.data.fill_(-7)
    state.members[0][-1].weight.data.fill_(1e3)
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
            lambda: ForwardModel(STATES, ACTIONS).sample(np.zeros((1, 3)), np.zeros((1, 3))),
            r"action has shape \(1, 3\); give \[1, 2\]",
        ),
    ],
)
def test_errors_name_cause_and_remedy(ask: Any, message: str) -> None:
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        ask()


class SinglePrecision(TorchDispatchMode):
    """Refuses to compute anything in double precision, which MPS does not have."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = op(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else [found]:
            # Scales are read as views, on the host.
            double = isinstance(part, torch.Tensor) and part.dtype == torch.float64
            if double and not op.is_view:
                raise TypeError(f"{op} gives double precision")
        return found


@EVERY_CASE
def test_everything_is_computed_in_single_precision(case: str) -> None:
    with SinglePrecision(), pytest.raises(TypeError, match="double precision"):
        torch.zeros(1).double()
    model, seen = made(case)
    with SinglePrecision():
        model.fit(seen, 3)
        columns = [seen.state, seen.action, seen.next_state, seen.goal, seen.layout]
        model.log_prob(*columns)
        model.sample_traces(seen.state[:2], 3, 4, *(c if c is None else c[:2] for c in columns[3:]))


def test_global_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    model, seen = made("ensemble")
    model.fit(seen, 3)
    model.sample_traces(seen.state[:2], 3, 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]


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
