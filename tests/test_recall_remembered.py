"""The control of recall, what truly came before; and the models asked for by name."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st
from small_recall import SMALL_RECALL
from stable_baselines3 import A2C, PPO

from delegate import RecallTraces, envs
from delegate.recall import (
    ExactBacktrackingModel,
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    Transitions,
)
from delegate.recall.remembered import remembered_traces
from delegate.recall.targets import entered
from delegate.recall.trajectories import Steps


def walk(last: np.ndarray) -> Steps:
    """Each step is named by its place: from state 10 k by action −k to state 10 k + 1."""
    place = np.arange(len(last), dtype=np.int64)
    none = np.zeros(len(last))
    return Steps(Transitions(10 * place, -place, 10 * place + 1), none, none, none > 0, last)


@given(
    ends_at=st.lists(st.booleans(), min_size=1, max_size=30),
    length=st.integers(1, 8),
    seed=st.integers(0, 2**16),
)
def test_traces_are_the_steps_before(ends_at: list[bool], length: int, seed: int) -> None:
    last = np.array([*ends_at[:-1], True])
    place = np.random.default_rng(seed).integers(0, len(last), 6)
    steps = walk(last)
    traces = remembered_traces(steps, entered(steps, place), length)
    np.testing.assert_array_equal(traces.states[:, 0], 10 * place + 1)
    for row, end in enumerate(place.tolist()):
        reach, k = 0, end
        while reach < length and k >= 0 and (k == end or not last[k]):
            assert traces.states[row, reach + 1] == 10 * k
            assert traces.actions[row, reach] == -k
            reach, k = reach + 1, k - 1
        assert traces.valid[row].tolist() == [j < reach for j in range(length)]
        assert (traces.states[row, reach + 1 :] == -1).all()
    assert not traces.log_prob.any()


def trained(seed: int = 0, **settings: Any) -> tuple[RecallTraces, np.ndarray]:
    env = gymnasium.make("Pendulum-v1", max_episode_steps=40)
    small = {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "n_steps": 32}
    recall = RecallTraces(**SMALL_RECALL, **settings)
    model = PPO("MlpPolicy", env, seed=seed, batch_size=32, **small)
    model.learn(640, callback=recall)
    parameters = torch.nn.utils.parameters_to_vector(model.policy.parameters())
    return recall, parameters.detach().numpy()


@pytest.mark.parametrize("weighting", ["uniform", "advantage"])
@pytest.mark.parametrize("kind", ["learned", "random", "forward", "remembered"])
def test_every_kind_is_made_runs_and_repeats(kind: Any, weighting: str) -> None:
    given_settings: dict[str, Any] = {"model": kind, "weighting": weighting}
    if kind != "remembered":
        given_settings["model_updates"] = 3
    recall, first = trained(**given_settings)
    assert np.array_equal(first, trained(**given_settings)[1])
    assert not np.array_equal(first, trained(weighting=weighting, imitation_updates=0)[1])
    found = type(recall.backtracking_model).__name__
    assert (
        found
        == {
            "learned": "LearnedBacktrackingModel",
            "random": "RandomBacktrackingModel",
            "forward": "ForwardModel",
            "remembered": "NoneType",
        }[kind]
    )
    if isinstance(recall.backtracking_model, ForwardModel):  # sees actions as they were drawn
        assert not recall.backtracking_model.action_space.is_bounded()
    if isinstance(recall.backtracking_model, RandomBacktrackingModel):
        assert recall.backtracking_model.action_space.is_bounded()


def test_a_kind_that_is_not_known_or_cannot_do_what_is_asked() -> None:
    with pytest.raises(ValueError, match=r'model is "magic"; give one of learned, random'):
        RecallTraces(model="magic")  # type: ignore[arg-type]
    nothing: Any = None
    with pytest.raises(TypeError, match="model is None; give one of learned, random, forward"):
        RecallTraces(model=nothing)
    with pytest.raises(ValueError, match=r'model is "remembered", which knows .*; give targets_f'):
        RecallTraces(model="remembered", targets_from=np.zeros((1, 3)))
    recall = RecallTraces(**SMALL_RECALL, model="remembered", diagnostics=True)
    model = A2C("MlpPolicy", "Pendulum-v1", device="cpu")
    with pytest.raises(TypeError, match="traces come from no model, and diagnostics say"):
        model.learn(10, callback=recall)


WORLD = envs.make("FourRooms", 1, size=7, num_levels=1)
SPACES = Box(-np.inf, np.inf, (3,)), Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("model", "means"),
    [
        ("learned", ("actions", "changes")),
        ("random", ("changes",)),
        ("forward", ("changes",)),
        ("remembered", ()),
        (LearnedBacktrackingModel(*SPACES), ("actions", "changes")),
        (RandomBacktrackingModel(*SPACES), ("changes",)),
        (ForwardModel(*SPACES), ("changes",)),
        (ExactBacktrackingModel(WORLD.transition_table()), ()),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_means_are_refused_where_a_model_has_none(model: Any, means: tuple[str, ...]) -> None:
    for mean in ("actions", "changes"):
        asked: dict[str, Any] = {f"mean_{mean}": True}
        if mean in means:
            RecallTraces(model=model, **asked)
            continue
        with pytest.raises(ValueError, match=f"which has no mean {mean}; drop mean_{mean}"):
            RecallTraces(model=model, **asked)
