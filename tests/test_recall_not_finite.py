"""What is not finite, of a world or of what is recalled, is named and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_recall import CONTINUOUS, FEW, Broken, made, same, weights
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from delegate import RecallTraces
from delegate.recall import Traces


@pytest.mark.parametrize("kind", [PPO, SAC])
@pytest.mark.parametrize(
    ("broken", "at", "message", "step"),
    [
        ("observation", 400, r"environment 0: observation \[nan, nan\] is not finite", 400),
        ("observation", 408, r"environment 0: observation \[nan, nan\] is not finite", 408),
        ("reset", 400, r"environment 0: observation \[nan, nan\] is not finite", 408),
        ("reward", 400, "environment 0: reward nan is not finite", 400),
    ],
)
def test_what_is_not_finite_is_named_before_anything_changes(
    kind: Any, broken: str, at: int, message: str, step: int, tmp_path: Path
) -> None:
    """Long after learning and recall have begun: all is as it was just before the step."""
    settings: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}}
    settings |= {"n_steps": 64} if kind is PPO else {"learning_starts": 64, "train_freq": 16}
    model = kind("MlpPolicy", Broken(broken, at), device="cpu", seed=0, **settings)
    recall = RecallTraces(**FEW)
    before: list[dict[str, np.ndarray]] = []

    class Noted(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == step:
                before.append(state_of(self.model, recall, tmp_path))
            return True

    untrained = weights(model)
    with pytest.raises(ValueError, match=message):
        model.learn(640, callback=CallbackList([Noted(), recall]))
    assert recall.buffer is not None
    assert recall.buffer.steps == step - 1, "the broken step is not remembered"
    assert model.num_timesteps == step
    assert recall.backtracking_model is not None
    assert not same(untrained, weights(model)), "it has learned before"
    assert same(before[0], state_of(model, recall, tmp_path))
    whole = kind("MlpPolicy", Broken(), device="cpu", seed=0, **settings)
    whole.learn(64, callback=RecallTraces(**FEW))


def state_of(model: Any, recall: RecallTraces, folder: Path) -> dict[str, np.ndarray]:
    """All that training changes: the policy, its optimisers, its buffer, and what recall saves."""
    found = weights(model)
    for name in ("policy", "actor", "critic"):
        optimizer = getattr(getattr(model, name, None), "optimizer", None)
        for place, own in (optimizer.state_dict()["state"] if optimizer else {}).items():
            found |= {
                f"{name} {place} {what}": value.clone().numpy() for what, value in own.items()
            }
    buffer = model.rollout_buffer if hasattr(model, "rollout_buffer") else model.replay_buffer
    for name in ("observations", "actions", "rewards", "pos"):
        found[f"buffer {name}"] = np.array(getattr(buffer, name))
    recall.save(folder / "recall.safetensors")
    return found | {"recall": np.frombuffer((folder / "recall.safetensors").read_bytes(), np.uint8)}


def test_what_is_not_finite_is_named_beneath_a_normaliser() -> None:
    venv = VecNormalize(DummyVecEnv([lambda: Broken("reward")]))
    model = PPO("MlpPolicy", venv, n_steps=64, device="cpu")
    with pytest.raises(ValueError, match="environment 0: reward nan is not finite"):
        model.learn(64, callback=RecallTraces(**FEW))


def test_imitation_of_what_overflows_changes_nothing() -> None:
    model, rng = made("SAC", CONTINUOUS), np.random.default_rng(0)
    recall = RecallTraces(length=1)
    recall.init_callback(model)
    before = weights(model)

    def imitate(states: float, actions: float = 1.0) -> dict[str, float]:
        seen = np.full((4, 2, 3), states, np.float32)
        valid = np.ones((4, 1), bool)
        traces = Traces(seen, np.full((4, 1, 1), actions), np.zeros((4, 1)), valid)
        return recall._imitate(traces, rng)

    for states, actions, said in (
        (1e38, 1.0, r"states up to 1e\+38, .* lower the model's support or give targets nearer"),
        (np.nan, 1.0, "of states up to nan"),
        (1.0, np.nan, "actions up to nan"),
    ):
        with pytest.raises(FloatingPointError, match=f"the loss of imitation is .*{said}"):
            imitate(states, actions)
        assert same(before, weights(model))
    assert np.isfinite(imitate(1.0)["imitation_loss"])
    assert not same(before, weights(model))
    with torch.no_grad():
        next(recall._learner.parameters()).fill_(np.nan)
    with pytest.raises(FloatingPointError, match=r"if these are usual the policy overflows"):
        imitate(1.0)
