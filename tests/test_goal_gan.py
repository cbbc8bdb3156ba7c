"""The Goal GAN on a ring of goals that are neither easy nor hard, alone and behind RecallTraces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FlattenObservation
from recall_cases import tamper
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from delegate import RecallTraces
from delegate.envs.mujoco import GoalDecoder
from delegate.recall import GoalGan, GoalGanConfig

gymnasium.register_envs(gymnasium_robotics)

SMALL: dict[str, Any] = {
    "generator_hidden": (8,),
    "discriminator_hidden": (8,),
    "updates": 5,
    "batch": 16,
    "capacity": 64,
}
LOW, HIGH = [-2.0, -2.0], [2.0, 2.0]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def success(goals: np.ndarray) -> np.ndarray:
    """1 up to 0.7 from the middle, 0 from 1.3 on."""
    return np.clip((1.3 - np.linalg.norm(goals, axis=1)) / 0.6, 0, 1)


def on_the_ring(goals: np.ndarray) -> np.ndarray:
    return (success(goals) >= 0.1) & (success(goals) <= 0.9)


def small(seed: int = 0, **settings: Any) -> GoalGan:
    return GoalGan(LOW, HIGH, seed=seed, **{**SMALL, **settings})


def learned(gan: GoalGan, times: int = 2) -> GoalGan:
    for _ in range(times):
        goals = gan.sample(60)
        gan.update(goals, success(goals))
    return gan


def everything(gan: GoalGan) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in gan.state_dict().values())


@pytest.mark.parametrize("shuffled", [False, True])
def test_generated_goals_come_to_lie_on_the_ring(shuffled: bool) -> None:
    """More than twice as often as uniform goals; shuffled labels are the control."""
    gan, rng, parts = GoalGan(LOW, HIGH, updates=100), np.random.default_rng(0), []
    for _ in range(8):
        goals = gan.sample(200, rng)
        rate = success(goals)
        gan.update(goals, rng.permutation(rate) if shuffled else rate, rng)
        parts.append(gan.generate(1_000, rng))
    generated = np.concatenate(parts[4:])
    good = on_the_ring(generated)
    uniform = on_the_ring(rng.uniform(LOW, HIGH, (20_000, 2))).mean()
    assert uniform == pytest.approx(0.188, abs=0.01)
    if shuffled:
        assert good.mean() < 2 * uniform
        return
    assert good.mean() > 2.5 * uniform
    angle = np.arctan2(generated[good, 1], generated[good, 0])
    counts, _ = np.histogram(angle, 12, (-np.pi, np.pi))
    assert (counts > 0.25 * counts.mean()).sum() >= 9, "it goes all the way round"


def test_goals_are_uniform_until_one_is_good() -> None:
    gan = small(replayed=0, uniform=0)
    first = np.random.default_rng(3).uniform(LOW, HIGH, (50, 2))
    np.testing.assert_array_equal(gan.sample(50, np.random.default_rng(3)), first)
    before = everything(gan)
    told = gan.update(gan.sample(50, np.random.default_rng(3)), np.zeros(50))
    assert np.isnan([told.discriminator, told.generator]).all()
    assert (told.good, told.kept) == (0, 0)
    assert everything(gan) == before
    gan.update([[1.0, 0.0]], [0.5])
    assert (gan.sample(50, np.random.default_rng(3)) != first).any()


def test_what_is_tried_is_mixed_as_asked() -> None:
    gan = small(replayed=0.5, uniform=0.2, apart=0.02)
    learned(gan, 4)
    kept = {tuple(goal) for goal in gan.kept}
    assert len(kept) > 10
    goals = gan.sample(20)
    old = [goal for goal in goals if tuple(goal) in kept]
    assert len(old) == 10
    assert len({tuple(goal) for goal in old}) == 10, "without repetition while there are enough"
    assert gan.sample(0).shape == (0, 2)
    everywhere = learned(small(replayed=0, uniform=1)).sample(4_000)
    assert on_the_ring(everywhere).mean() == pytest.approx(0.188, abs=0.03)


def test_the_goals_lie_within_their_bounds() -> None:
    low, high = np.array([-3.0, 10.0, 0.1]), np.array([-1.0, 500.0, 0.2])
    gan = GoalGan(low, high, **{**SMALL, "jitter": 1.0})
    goals = gan.sample(100)
    gan.update(goals, np.full(100, 0.5))
    for made in (gan.sample(500), gan.generate(500)):
        assert made.dtype == np.float64
        assert made.shape == (500, 3)
        assert ((made >= low) & (made <= high)).all()


def test_intermediate_difficulty_includes_its_bounds() -> None:
    rates = [0.0, 0.0999, 0.1, 0.5, 0.9, 0.9001, 1.0]
    expected = [False, False, True, True, True, False, False]
    np.testing.assert_array_equal(small().label(rates), expected)


def test_a_good_goal_too_near_to_a_kept_one_is_not_kept() -> None:
    gan = small(apart=0.25, capacity=3)  # widths are 4: one unit
    goals = [[0.0, 0.0], [0.0, 0.9], [0.0, 1.1], [-2.0, 0.0], [1.5, 0.0]]
    gan.update(goals, [0.5, 0.5, 0.5, 0.0, 0.5])
    np.testing.assert_array_equal(gan.kept, [[0.0, 0.0], [0.0, 1.1], [1.5, 0.0]])
    assert gan.update([[-1.5, -1.5]], [0.5]).kept == 3, "the oldest makes room"
    np.testing.assert_array_equal(gan.kept, [[-1.5, -1.5], [0.0, 1.1], [1.5, 0.0]])


def test_the_losses_by_hand() -> None:
    """Of one step: the discriminator before it, the generator after the discriminator's."""
    gan = small(updates=1, batch=1, blur=0.0, discriminator_rate=1e-12)
    net, judge = gan.generator, gan.discriminator
    rng = np.random.default_rng(5)
    for rate, wanted in ((0.5, 1.0), (0.0, -1.0)):
        goals = [[1.0, -0.5], [-1.0, 0.5]] if rate else [[1.0, -0.5]] * 50 + [[0.0, 0.0]]
        start = rng.bit_generator.state
        with torch.no_grad():
            row = rng.integers(len(goals), size=1)[0]
            rng.standard_normal((1, 2), np.float32)
            fakes = []
            for _ in range(2):
                noise = torch.from_numpy(rng.standard_normal((1, 4), np.float32))
                fakes.append(judge(net(noise)).item())
                rng.standard_normal((1, 2), np.float32)
            real = judge(torch.tensor(goals[row]).float() / 2).item()
        rng.bit_generator.state = start
        rates = [0.5] * len(goals) if rate else [0.0] * 50 + [0.5]
        told = gan.update(goals, rates, rng)
        expected = (real - wanted) ** 2 + (fakes[0] + 1) ** 2
        assert told.discriminator == pytest.approx(expected, rel=1e-4)
        assert told.generator == pytest.approx(fakes[1] ** 2, rel=1e-4)


def test_a_seed_decides_everything_and_global_random_numbers_nothing() -> None:
    ends = []
    for disturbance in (0, 1):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        gan = learned(small(seed=7))
        ends.append(everything(gan) + gan.sample(9).tobytes())
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert ends[0] == ends[1]
    assert everything(learned(small(seed=8))) != everything(learned(small(seed=7)))


def test_a_given_stream_leaves_the_own_one_alone() -> None:
    gan = small()
    before = gan.state_dict()["rng"]
    rng = np.random.default_rng(0)
    goals = gan.sample(20, rng)
    gan.update(goals, np.full(20, 0.5), rng)
    gan.generate(3, rng)
    assert torch.equal(gan.state_dict()["rng"], before)


def test_a_saved_one_goes_on_bit_for_bit(tmp_path: Path) -> None:
    gan = learned(small(seed=1))
    gan.save(tmp_path / "gan.safetensors")
    onward = everything(learned(gan)) + gan.sample(50).tobytes()
    other = learned(small(seed=2), 1)
    other.load(tmp_path / "gan.safetensors")
    assert everything(learned(other)) + other.sample(50).tobytes() == onward
    assert os.listdir(tmp_path) == ["gan.safetensors"]
    forgetful = small()
    forgetful.load(tmp_path / "gan.safetensors")
    state = forgetful.state_dict()
    state["optimizer.generator.0.weight.exp_avg"].zero_()
    forgetful.load_state_dict(state)
    assert everything(learned(forgetful)) + forgetful.sample(50).tobytes() != onward


def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    gan, path = learned(small()), tmp_path / "gan.safetensors"
    before = everything(gan)
    others = (
        (small(apart=0.5), "apart is 0.5, and here it is 0.03"),
        (small(generator_hidden=(9,)), "generator_hidden is .9., and here it is .8."),
        (GoalGan(LOW, [2.0, 3.0], **SMALL), r"high is \[2.0, 3.0\], and here it is"),
    )
    for other, message in others:
        other.save(path)
        with pytest.raises(ValueError, match=message):
            gan.load(path)
    for name, bad, message in (
        ("rng", torch.zeros(3, dtype=torch.uint8), "random stream"),
        ("replay", torch.zeros(3, 2), "replay has shape"),
    ):
        gan.save(path)
        tamper(path, {name: bad})
        with pytest.raises(ValueError, match=message):
            gan.load(path)
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="or damaged"):
        gan.load(path)
    with pytest.raises(FileNotFoundError):
        gan.load(tmp_path / "none")
    assert everything(gan) == before


@pytest.mark.parametrize(
    ("goals", "rate", "message"),
    [
        ([0.0, 0.0], [0.5], r"goals have shape \(2,\); give \[N, 2\]"),
        ([[0.0, 0.0, 0.0]], [0.5], r"goals have shape \(1, 3\)"),
        ([[0.0, 0.0], [0.0, 2.5]], [0.5, 0.5], "row 1: goals holds 2.5 in coordinate 1; give -2"),
        ([[np.nan, 0.0]], [0.5], "row 0: goals holds nan in coordinate 0"),
        ([[0.0, 0.0]], [[0.5]], r"success has shape \(1, 1\); give \[N\]"),
        ([[0.0, 0.0]], [1.5], "row 0: success is 1.5; give the share of tries, 0 to 1"),
        ([[0.0, 0.0]] * 2, [0.5, np.nan], "row 1: success is nan"),
        ([[0.0, 0.0]] * 2, [0.5], "goals are 2 and success 1; give a rate a goal"),
    ],
)
def test_bad_experience_is_refused_and_changes_nothing(goals: Any, rate: Any, message: str) -> None:
    gan = learned(small())
    before = everything(gan)
    with pytest.raises(ValueError, match=message):
        gan.update(goals, rate)
    assert everything(gan) == before


@pytest.mark.parametrize(
    ("low", "high", "settings", "message"),
    [
        ([0.0, 1.0], [1.0, 1.0], {}, "coordinate 1: low 1.0 and high 1.0; give finite bounds"),
        ([0.0, -np.inf], [1.0, 1.0], {}, "coordinate 1: low -inf"),
        ([-1e308], [1e308], {}, "coordinate 0"),
        ([np.nan], [1.0], {}, "coordinate 0: low nan"),
        ([0.0], [1.0, 1.0], {}, r"low and high have shapes \(1,\) and \(2,\); give \[d\] both"),
        ([], [], {}, "low and high have shapes"),
        (LOW, HIGH, {"r_min": 0.9, "r_max": 0.1}, "r_min 0.9 is above r_max 0.1"),
        (LOW, HIGH, {"replay": 0.5}, "replay"),
        (LOW, HIGH, {"jitter": np.nan}, "jitter"),
        (LOW, HIGH, {"generator_rate": 1e39}, "generator_rate"),
    ],
)
def test_bad_bounds_and_settings_are_refused(
    low: Any, high: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GoalGan(low, high, **settings)


def test_training_that_diverges_leaves_everything_as_it_was() -> None:
    gan = small()
    gan.discriminator[0].weight.data.fill_(1e38)
    before = everything(gan)
    with pytest.raises(FloatingPointError, match="lower generator_rate or discriminator_rate"):
        gan.update(np.zeros((4, 2)), np.full(4, 0.5))
    assert everything(gan) == before


def test_a_negative_count_is_refused() -> None:
    for draw in (small().sample, small().generate):
        with pytest.raises(ValueError, match="count is -1; give 0 or more"):
            draw(-1)


def test_settings_come_from_a_config_and_by_name() -> None:
    config = GoalGanConfig(r_min=0.2, updates=3)
    gan = GoalGan(LOW, HIGH, config, updates=4)
    assert (gan.config.r_min, gan.config.updates, config.updates) == (0.2, 4, 3)


def test_recalled_traces_end_where_the_goal_gan_says() -> None:
    decode = GoalDecoder("PointMaze_UMaze-v3")
    weights = []
    for recalled in (True, True, False):
        gan, ends = learned(GoalGan([-1.5, -1.5], [1.5, 1.5], **SMALL)), []

        def kept(goals: np.ndarray, ends: list[np.ndarray] = ends) -> np.ndarray:
            ends.append(decode(goals))
            return ends[-1]

        rows = DummyVecEnv(
            [lambda: FlattenObservation(gymnasium.make("PointMaze_UMaze-v3", max_episode_steps=20))]
            * 2
        )
        model = PPO("MlpPolicy", rows, n_steps=32, batch_size=64, seed=0, device="cpu")
        assert model.observation_space.shape == decode.space.shape
        told: dict[str, Any] = {}

        class Told(Logger):
            def record(self, key: str, value: Any, exclude: Any = None, told: Any = told) -> None:
                told[key] = value

        model.set_logger(Told(None, []))
        recall = RecallTraces(
            length=4,
            count=8 if recalled else 0,
            start=64,
            every=64,
            model_updates=3,
            model_settings={"hidden": (16,)},
            targets_from=gan.as_targets(kept),
        )
        model.learn(256, callback=recall)
        weights.append(
            np.concatenate([p.detach().numpy().ravel() for p in model.policy.parameters()])
        )
        assert len(ends) == (3 if recalled else 0)
        if recalled:
            assert all(states.shape == (8, 8) for states in ends)
            assert told["recall/steps"] > 0
            assert np.isfinite(told["recall/end_value"])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
