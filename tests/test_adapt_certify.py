"""`envs.certify`: what a proof sees, names and counts; the same outcome every time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py import roms
from gymnasium.spaces import Box, Discrete
from nasty_worlds import Walk

from delegate import envs
from delegate.backtrack import Snapshot, StatefulVectorEnv
from delegate.envs import Certificate, NotRestorable
from delegate.envs.adapted import proof

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
TICKS = itertools.count()
"""a library's own memory, which no snapshot reaches"""


class CountsLate(Walk):
    """Never ends, and shows a count that no snapshot reaches from its 120th step on."""

    def step(self, action: Any) -> Any:
        self.steps += 1
        late = float(next(TICKS)) if self.steps > 120 else 0.0
        return np.array([self.steps, late]), 0.0, False, False, {}


class Running:
    n = 0


def sharing() -> Callable[[], Walk]:
    """Environments that count in one object, which each holds."""
    running = Running()

    class Shares(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.running = running

        def reward(self) -> float:
            self.running.n += 1
            return float(self.running.n > 10_000)

    return Shares


def sharing_a_variable() -> Callable[[], Walk]:
    """The same, in a variable around their method."""
    running = Running()

    class SharesAVariable(Walk):
        def reward(self) -> float:
            running.n += 1
            return float(running.n > 10_000)

    return SharesAVariable


class Holds(Walk):
    """Counts in an object that it was given, and draws from another."""

    def __init__(self, running: Running, dice: np.random.Generator | None = None) -> None:
        super().__init__()
        self.running, self.dice = running, dice

    def reward(self) -> float:
        if self.dice is not None:
            return float(self.dice.random() > 2)
        self.running.n += 1
        return float(self.running.n > 10_000)


def sharing_an_argument() -> Callable[[], Walk]:
    """The same, of which nothing but the two environments knows."""
    running = Running()
    return lambda: Holds(running)


def sharing_dice() -> Callable[[], Walk]:
    """Environments that draw from one generator, and show nothing of it."""
    dice = np.random.default_rng(0)
    return lambda: Holds(Running(), dice)


class SharesItsSpace(Walk):
    """Changes the space of its class."""

    spaces = (Discrete(3),)

    def reward(self) -> float:
        self.spaces[0].n = np.int64(3 + self.steps % 2)
        return 0.0


class CountsInADefault(Walk):
    def reward(self, seen: list[int] = []) -> float:  # noqa: B006 - that is the point
        seen.append(1)
        return float(len(seen) > 10_000)


class CountsInAnotherDefault(Walk):
    """A function of its own with a default that changes, seen at once."""

    def __init__(self) -> None:
        super().__init__()
        one = 1

        def count(seen: list[int] = []) -> int:  # noqa: B006 - that is the point
            seen.append(one)
            return len(seen)

        self.count = count

    def reward(self) -> float:
        return float(self.count())


class Record(Walk):
    """Counts in a record of an array."""

    def __init__(self) -> None:
        super().__init__()
        self.table = np.zeros(3, [("hp", "f8")])
        self.me = self.table[0]

    def reward(self) -> float:
        self.me["hp"] += 1
        return float(self.me["hp"])


class Games(gymnasium.Env[Any, Any]):
    """Draws one of several cartridges at every reset."""

    observation_space = Box(0, 255, (128,), np.uint8)
    action_space = Discrete(2)
    names = ("pong", "breakout")

    def __init__(self) -> None:
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", 1)
        self.ale.loadROM(roms.get_rom_path(self.names[0]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        name = self.names[int(self.np_random.integers(len(self.names)))]
        self.ale.loadROM(roms.get_rom_path(name))
        self.ale.reset_game()
        return self.ale.getRAM(), {}

    def step(self, action: Any) -> Any:
        reward = self.ale.act(ale_py.Action(int(action)))
        return self.ale.getRAM(), float(reward), self.ale.game_over(), False, {}


class OneGame(Games):
    names = ("pong",)


class VectorReward(Walk):
    def reward(self) -> Any:
        return np.array([1.0])


REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (sharing(), r"it changes env\.running\.n, which all", "env.running"),
    (
        sharing_a_variable(),
        r"it changes .*SharesAVariable\.reward\['running'\]",
        "SharesAVariable.reward",
    ),
    (SharesItsSpace, r"it changes test_adapt_certify\.SharesItsSpace\.spaces", "spaces"),
    (CountsInADefault, r"it changes .*CountsInADefault\.reward\['defaults'\]", "CountsInADefault"),
    (CountsInAnotherDefault, r"reward was float", "reward"),
    (Record, r"reward was float", "reward"),
    (Games, r"env\.?.*another cartridge \(.*\.bin after .*\.bin\)|another cartridge", ""),
    (VectorReward, r"the reward has shape \(1,\); give one number", ""),
    (CountsLate, r"observation\[1\] was float64 .*where no snapshot reaches", "observation[1]"),
]


@pytest.mark.parametrize(
    ("make", "reason", "field"), REFUSED, ids=[getattr(m, "__name__", "") for m, _, _ in REFUSED]
)
def test_refused_with_the_reason(make: Any, reason: str, field: str) -> None:
    found = envs.certify(make)
    assert (found.verdict, found.exact) == ("refused", False)
    assert found.reason is not None
    assert found.env in found.reason
    assert "\n" not in found.reason
    assert re.search(reason, found.reason)
    assert field in (found.field or "")
    with pytest.raises(NotRestorable, match=reason):
        envs.adapt(make)


@pytest.mark.parametrize("given", [sharing_an_argument, sharing_dice])
def test_what_only_two_environments_share_is_seen(given: Callable[[], Any]) -> None:
    """No class or module knows of it, and nothing shows it."""
    found = envs.certify(given())
    assert found.verdict == "refused"
    assert re.search(r"it changes env\.(running\.n|dice\S*), which all", found.reason or "")
    assert envs.certify(given()()).verdict == "exact", "alone it shares nothing"


@pytest.mark.parametrize("given", [sharing_an_argument, sharing_dice])
def test_what_environments_share_shows_when_they_play_by_turns(
    given: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not looked for: their states differ in the end."""
    monkeypatch.setattr(proof.Proof, "_check_outside", lambda self: None)
    found = envs.certify(given())
    assert found.verdict == "refused"
    assert re.search(
        r"(running\.n|random\S*) was .*an object that environments share", found.reason
    )


@pytest.mark.parametrize("seed", range(6))
def test_two_cartridges_are_refused_every_time(seed: int) -> None:
    """Not by the luck of which one a reset draws."""
    found = envs.certify(Games, seed=seed, steps=60)
    assert found.verdict == "refused"
    assert "another cartridge" in (found.reason or "")


def test_one_cartridge_is_no_reason() -> None:
    assert envs.certify(OneGame, steps=60).verdict == "exact"


def test_what_comes_late_is_seen_by_a_longer_proof() -> None:
    """The negative control of its length: sixty steps see nothing."""
    short = envs.certify(CountsLate, steps=60)
    assert short.verdict == "exact"
    long = envs.certify(CountsLate, steps=300)
    assert (long.verdict, long.field) == ("refused", "observation[1]")
    assert long.step is not None
    assert 0 < long.step < 300


def test_a_certificate_says_what_was_compared() -> None:
    found = envs.certify("CartPole-v1", steps=240, seed=3)
    assert found == envs.certify("CartPole-v1", steps=240, seed=3)
    assert (found.env, found.verdict, found.codec) == ("CartPole-v1", "exact", "copy")
    assert (found.steps, found.rows) == (240, 2)
    assert found.resets > 3
    assert (found.field, found.step, found.reason) == (None, None, None)
    assert found.versions == {"gymnasium": gymnasium.__version__, "numpy": np.__version__}
    assert envs.certify("Hopper-v5", steps=60).versions.keys() >= {"mujoco"}


def test_what_cannot_even_be_read_is_refused() -> None:
    found = envs.certify("LunarLander-v3")
    assert (found.verdict, found.codec, found.steps, found.step) == ("refused", None, 0, None)
    assert found.field == "env.env.env.env.world"
    assert "Box2D" in (found.reason or "")


def test_adapt_keeps_the_certificate_and_proves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = envs.adapt("Acrobot-v1", 1).certificate
    assert isinstance(first, Certificate)
    assert (first.verdict, first.steps) == ("exact", 300)

    def again(self: Any) -> None:
        raise AssertionError("proved again")

    monkeypatch.setattr(proof.Proof, "run", again)
    assert envs.adapt("Acrobot-v1", 3, autoreset_mode="Disabled").certificate == first
    assert envs.adapt(gymnasium.spec("Acrobot-v1")).certificate == first
    with pytest.raises(AssertionError, match="proved again"):
        envs.adapt("Acrobot-v1", max_episode_steps=7)


def test_a_slow_environment_is_proved_for_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.time, "perf_counter", itertools.count().__next__)
    assert envs.adapt(lambda: Walk()).certificate.steps == proof.LEAST
    monkeypatch.undo()
    assert envs.adapt(lambda: Walk()).certificate.steps == proof.STEPS


def test_an_environment_that_is_given_is_left_as_it_was() -> None:
    env, twin = Walk(), Walk()
    for each in (env, twin):
        each.reset(seed=5)
        each.step(2)
    found = envs.certify(env)
    assert (found.verdict, found.rows) == ("exact", 1)
    for action in (0, 1, 2, 0, 1):
        np.testing.assert_array_equal(env.step(action)[0], twin.step(action)[0])


class Fading(StatefulVectorEnv):
    """Points that come near zero, whose shrinking a careless snapshot forgets."""

    def __init__(self, rows: int = 3, forgets: str = "") -> None:
        self.num_envs, self.forgets = rows, forgets
        self.single_observation_space = Box(-9, 9, (1,), np.float64)
        self.single_action_space = Discrete(2)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, rows
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, rows)
        self.place, self.speed = np.zeros(rows), np.ones(rows)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.place[:], self.speed[:] = 8, 1
        return self.observe(), {}

    def step(self, actions: Any) -> Any:
        self.place *= 1 - 0.1 * self.speed
        self.speed *= 0.9
        ended = np.zeros(self.num_envs, bool)
        return self.observe(), self.place.copy(), ended, ended.copy(), {}

    def observe(self, rows: Any = None) -> Any:
        return self.place[self.row_index(rows), None].copy()

    def state_arrays(self) -> dict[str, np.ndarray]:
        every = {"place": self.place, "speed": self.speed}
        return {name: array for name, array in every.items() if name != self.forgets}


class ForgetsToSave(Fading):
    """A restore that says it restored, and did not."""

    def restore(self, snapshot: Snapshot, rows: Any = None, **how: Any) -> None:
        arrays = {**snapshot.arrays, "place": snapshot.arrays["place"] + 1e-12}
        super().restore(Snapshot(snapshot.world, arrays), rows, **how)


@pytest.mark.parametrize("given", ["made", "factory"])
def test_a_recipe_that_forgets_a_field_is_found(given: str) -> None:
    def of(forgets: str) -> Any:
        return Fading(forgets=forgets) if given == "made" else lambda: Fading(forgets=forgets)

    whole = envs.certify(of(""))
    assert (whole.verdict, whole.codec, whole.steps) == ("exact", "rows", 300)
    assert whole.rows == (3 if given == "made" else 6)
    careless = envs.certify(of("speed"))
    assert (careless.verdict, careless.codec) == ("refused", "rows")
    assert careless.field == "speed[0]"
    assert careless.step is not None
    assert "speed[0] is lost" in (careless.reason or "")


def test_a_restore_that_is_off_is_found_at_once() -> None:
    found = envs.certify(lambda: ForgetsToSave())
    assert (found.verdict, found.step) == ("refused", None)
    assert "place" in (found.field or "")
    assert "right after a restore" in (found.reason or "")


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_worlds_of_ours_are_exact(mode: str) -> None:
    for make in (
        lambda: envs.make("Corner", 3, max_steps=9, autoreset_mode=mode),
        lambda: envs.make("Hopper-v5", 2, autoreset_mode=mode),
        lambda: envs.adapt("CartPole-v1", 2, autoreset_mode=mode, max_episode_steps=9),
    ):
        found = envs.certify(make, steps=90)
        assert found.verdict == "exact", found.reason
        assert found.codec == "rows"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("Nope-v0", gymnasium.error.Error, "Nope"),
        (lambda: 3, TypeError, "made a int; it must make a gymnasium.Env"),
        (3, TypeError, "int is no environment"),
    ],
)
def test_what_cannot_be_made_raises(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        envs.certify(given)
    with pytest.raises(ValueError, match="steps is 59; give 60 or more"):
        envs.certify("CartPole-v1", steps=59)
