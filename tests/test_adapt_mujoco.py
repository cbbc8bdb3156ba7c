"""MuJoCo environments through `adapt`: Gymnasium's and Gymnasium-Robotics', bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np
import pytest
from adapted_conformance import check_adapted, check_adapted_backtrack, check_backtrack
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.envs.adapted import NotRestorable, RowFailed, mujoco_state

gymnasium.register_envs(gymnasium_robotics)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*"),
    pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning"),
    pytest.mark.filterwarnings("ignore:.*settotalmass.*"),
]

EVERY = sorted(
    spec.id
    for spec in gymnasium.registry.values()
    if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.id.endswith("-v5")
)
SOME = ["Hopper-v5", "Ant-v5", "Reacher-v5"]
ROBOTICS = ["PointMaze_UMaze-v3", "AntMaze_UMaze-v5", "AdroitHandPen-v1", "AdroitHandDoor-v1"]
MORE_ROBOTICS = [
    "AdroitHandHammer-v1",
    "AdroitHandRelocate-v1",
    "AntMaze_Medium_Diverse_GR-v5",
    "PointMaze_Medium_Diverse_GR-v3",
]


@pytest.fixture(autouse=True)
def log_elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log where it stands, also of models that are merely out of date."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("id", SOME)
def test_fidelity_with_its_negative_control(id: str) -> None:
    check_adapted(id, max_episode_steps=6, save_points=3)


@pytest.mark.parametrize("id", ROBOTICS)
def test_fidelity_of_robotics_with_its_negative_control(id: str) -> None:
    matters = ("objects", "random")
    check_adapted(id, matters=matters, max_episode_steps=6, steps=14, rows=2, save_points=2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", [*EVERY, *ROBOTICS, *MORE_ROBOTICS])
def test_fidelity_for_longer_in_every_mode(id: str, mode: AutoresetMode) -> None:
    check_adapted(id, mode=mode, matters=("objects",), max_episode_steps=12, steps=36, rows=4)


@pytest.mark.parametrize("id", [*SOME, *ROBOTICS])
def test_backtrack_passes_gymnasiums_check(id: str) -> None:
    check_backtrack(id, max_episode_steps=6)


@pytest.mark.parametrize("id", [*SOME, *ROBOTICS])
def test_fidelity_under_backtracking_with_its_negative_control(id: str) -> None:
    seed = 2 if id == "AdroitHandPen-v1" else 3  # of which a backtrack goes past a saved moment
    check_adapted_backtrack(id, max_episode_steps=6, steps=9, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("id", [*EVERY, *ROBOTICS, *MORE_ROBOTICS])
def test_fidelity_under_backtracking_for_longer(id: str) -> None:
    check_adapted_backtrack(id, max_episode_steps=12, steps=36, rows=4, save_points=10)


def divergence(first: Any, second: Any, actions: np.ndarray) -> float:
    """The largest difference in any observation or reward over those actions."""
    largest = 0.0
    for action in actions:
        one, other = first.step(action), second.step(action)
        largest = max(largest, np.abs(one[0] - other[0]).max(), abs(one[1] - other[1]))
    return float(largest)


@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Hopper-v5", "Humanoid-v5"])
def test_a_deep_copy_diverges_and_ours_does_not(id: str) -> None:
    """The trap that `adapt` is for: the copy is not where the original is.

    Gymnasium's environments are EzPickle, so a deep copy is a new environment at its own start.
    """
    env = gymnasium.make(id)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = np.array([env.action_space.sample() for _ in range(60)])
    adapted = envs.adapt(id, 2)
    adapted.reset(seed=[0, 1])
    for action in actions[:10]:
        env.step(action)
        adapted.step(np.tile(action, (2, 1)))
    assert divergence(env, copy.deepcopy(env), actions[10:]) > 1

    saved = adapted.snapshot(np.array([0]))
    first = [adapted.step(np.tile(action, (2, 1)))[:2] for action in actions[10:]]
    adapted.restore(saved, np.array([0]))
    adapted.restore(saved, np.array([1]))
    for action, (shown, reward) in zip(actions[10:], first, strict=True):
        again, rewarded, *_ = adapted.step(np.tile(action, (2, 1)))
        for row in range(2):
            np.testing.assert_array_equal(again[row], shown[0])
            assert rewarded[row] == reward[0]


def test_positions_and_velocities_alone_are_not_the_state() -> None:
    env, twin = (gymnasium.make("Humanoid-v5").unwrapped for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=1)
    env.action_space.seed(0)
    for _ in range(10):
        env.step(env.action_space.sample())
    twin.set_state(env.data.qpos, env.data.qvel)
    actions = np.array([env.action_space.sample() for _ in range(30)])
    assert divergence(env, twin, actions) > 0


@pytest.mark.parametrize("id", ["Ant-v5", "Humanoid-v5", "Reacher-v5"])
def test_rows_equal_gymnasiums_own(id: str) -> None:
    env, single = envs.adapt(id, 2), gymnasium.make(id)
    shown, _ = env.reset(seed=3)
    expected, _ = single.reset(seed=4)
    env.action_space.seed(0)
    ended = False
    for step in range(60):
        np.testing.assert_array_equal(shown[1], expected)
        actions = env.action_space.sample()
        if step % 3 == 0:
            saved = env.snapshot()
            env.step(env.action_space.sample())
            env.restore(saved)
        shown, reward, terminated, truncated, _ = env.step(actions)
        if ended:
            expected, _ = single.reset()
            ended = False
            continue
        expected, one, over, cut, _ = single.step(actions[1])
        assert (reward[1], terminated[1], truncated[1]) == (one, over, cut)
        ended = over or cut


def test_a_model_that_an_environment_changes_is_restored() -> None:
    env = envs.adapt("AdroitHandDoor-v1", 2)
    env.reset(seed=0)
    where = [each.unwrapped.model.body_pos.copy() for each in env.envs]
    saved = env.snapshot()
    env.reset()
    env.envs[0].unwrapped.model.opt.gravity[2] = -1
    env.envs[0].unwrapped.model.opt.timestep = 0.1
    assert not np.array_equal(env.envs[0].unwrapped.model.body_pos, where[0])
    env.restore(saved.take(np.array([1, 0])))
    for each, position in zip(env.envs, where[::-1], strict=True):
        np.testing.assert_array_equal(each.unwrapped.model.body_pos, position)
        assert each.unwrapped.model.opt.gravity[2] == -9.81
        assert each.unwrapped.model.opt.timestep == 0.002


def test_an_unchanged_model_is_kept_once() -> None:
    env = envs.adapt("Humanoid-v5", 2)
    env.reset(seed=0)
    model = env.envs[0].unwrapped.model

    def held() -> Any:
        graph = env.snapshot().arrays["objects"][0].what
        return graph.held[graph.places[id(model)]][1]

    first = held()
    env.step(env.action_space.sample())
    second = held()
    for name in ("settings", "arrays"):
        assert first[name] is second[name]


def test_a_view_of_the_simulators_memory_stays_one() -> None:
    def make() -> gymnasium.Env[Any, Any]:
        env = gymnasium.make("Hopper-v5")
        env.unwrapped.joints = env.unwrapped.data.qpos  # type: ignore[attr-defined]
        return env

    env = envs.adapt(make, 2)
    env.reset(seed=0)
    saved = env.snapshot()
    env.step(env.action_space.sample())
    env.restore(saved.take(np.array([1, 0])))
    for each in env.envs:
        assert np.shares_memory(each.unwrapped.joints, each.unwrapped.data.qpos)


def test_a_simulation_that_blows_up_is_named_and_the_others_go_on() -> None:
    env = envs.adapt("Hopper-v5", 3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    still, before = np.zeros((3, 3), np.float32), env.observe()
    env.envs[1].unwrapped.data.qvel[:] = 1e12
    with pytest.raises(RowFailed, match=r"row 1: FloatingPointError: MuJoCo's numbers blew up"):
        env.step(still)
    assert not np.array_equal(env.observe()[[0, 2]], before[[0, 2]])
    env.reset(seed=0, options={"reset_mask": np.array([False, True, False])})
    shown, *_ = env.step(still)
    assert np.isfinite(shown).all()


FALLING = """<mujoco><option timestep="0.005"/><size nuserdata="1"/>
<asset><hfield name="ground" nrow="16" ncol="16" size="2 2 1 .1"/></asset><worldbody>
<geom name="floor" type="hfield" hfield="ground"/><body pos="0 0 {height}"><freejoint/>
<geom name="ball" type="sphere" size=".1"/></body></worldbody></mujoco>"""


class Falls(gymnasium.Env[Any, Any]):
    """A ball that falls on a terrain; it says where it was, and what touched before it moved."""

    def __init__(self, height: float = 1.5) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.build(height)

    def build(self, height: float) -> None:
        self.model = mujoco.MjModel.from_xml_string(FALLING.format(height=height))
        self.data = mujoco.MjData(self.model)

    def draw(self) -> None:
        """What a reset draws anew."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.draw()
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        return np.zeros(4), {}

    def step(self, action: Any) -> Any:
        touched = [self.data.ncon, *(self.data.contact.dist[:1] if self.data.ncon else [0.0])]
        for _ in range(5):
            mujoco.mj_step(self.model, self.data)
        shown = [*touched, self.data.qpos[2], self.data.qvel[2]]
        return np.array(shown, np.float64), 0.0, False, False, {}


class NewTerrain(Falls):
    def draw(self) -> None:
        self.model.hfield_data[:] = self.np_random.random(256)


class NewSize(Falls):
    def draw(self) -> None:
        self.model.geom("ball").size[0] = self.np_random.uniform(0.05, 0.3)


class NewGravity(Falls):
    def draw(self) -> None:
        self.model.opt.gravity[2] = -self.np_random.uniform(1, 20)


class NewLight(Falls):
    """Its looks alone."""

    def draw(self) -> None:
        self.model.vis.headlight.ambient[:] = self.np_random.random(3)

    def step(self, action: Any) -> Any:
        shown, *rest = super().step(action)
        shown[0] = self.model.vis.headlight.ambient[0]
        return shown, *rest


class NewSimulator(Falls):
    """As some environments do to draw another model."""

    def draw(self) -> None:
        self.build(float(self.np_random.uniform(0.5, 3)))


DRAWN: list[type[Falls]] = [Falls, NewTerrain, NewSize, NewGravity, NewLight, NewSimulator]


def replayed(make: Any, before: int = 30, after: int = 40) -> bool:
    """Whether two rows do again what they did, in each other's place, after another episode."""
    env, still = envs.adapt(make, 2, autoreset_mode="Disabled"), np.zeros(2, int)
    env.reset(seed=0)
    for _ in range(before):
        env.step(still)
    saved = env.snapshot()
    first = [env.step(still)[0] for _ in range(after)]
    same = True
    for order in ([0, 1], [1, 0]):
        env.reset(seed=7)
        for _ in range(20):
            env.step(still)
        env.restore(saved.take(np.array(order)))
        same &= all(np.array_equal(env.step(still)[0], shown[order]) for shown in first)
    return same


@pytest.mark.parametrize("world", DRAWN)
def test_what_a_reset_draws_comes_back(world: type[Falls]) -> None:
    assert replayed(world)


@pytest.mark.parametrize("world", DRAWN[1:5])
def test_a_model_that_is_not_restored_is_noticed(
    world: type[Falls], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mujoco_state, "write_model", lambda *given: None)
    with pytest.raises(NotRestorable, match=r"its model\.|observation"):
        envs.adapt(lambda: world())


def test_contacts_read_before_a_step_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lag behind the state as all that a step derives; MuJoCo's own restore loses them."""
    assert replayed(Falls, before=25, after=8)
    monkeypatch.setattr(mujoco, "mj_collision", lambda model, data: None)
    with pytest.raises(NotRestorable, match=r"observation\[[01]\] was"):
        envs.adapt(lambda: Falls())


def test_the_integration_state_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward of Ant reads forces that the last step left behind."""

    def only_the_state(data: Any, saved: dict[str, Any]) -> None:
        mujoco.mj_setState(data.model, data, np.frombuffer(saved["physics"]), mujoco_state.STATE)
        mujoco.mj_forward(data.model, data)

    monkeypatch.setattr(mujoco_state, "write_data", only_the_state)
    with pytest.raises(NotRestorable, match=r"Ant-v5 cannot be restored: its env.*data\.derived"):
        envs.adapt("Ant-v5", max_episode_steps=77)


class NewTexture(Falls):
    """A picture of 295 kB."""

    def build(self, height: float) -> None:
        sky = "<texture name='sky' type='skybox' builtin='flat' width='128' height='768'/><hfield"
        xml = FALLING.format(height=height).replace("<hfield", sky)
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.data = mujoco.MjData(self.model)

    def draw(self) -> None:
        self.model.tex_data[5] = self.np_random.integers(256)

    def step(self, action: Any) -> Any:
        shown, *rest = super().step(action)
        shown[0] = self.model.tex_data[5]
        return shown, *rest


class Flickers(NewTexture):
    """It changes between resets."""

    def step(self, action: Any) -> Any:
        self.model.tex_data[5] = (int(self.model.tex_data[5]) + 1) % 256
        return super().step(action)


@pytest.mark.parametrize("world", [NewTexture, Flickers])
def test_a_texture_comes_back(world: type[Falls]) -> None:
    assert replayed(world)


@pytest.mark.parametrize("when", ["made", "later"])
def test_bodies_that_sleep_are_refused(when: str) -> None:
    class Sleeps(Falls):
        def build(self, height: float) -> None:
            super().build(height)
            if when == "made":
                self.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP

        def draw(self) -> None:
            self.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP

    with pytest.raises(NotRestorable, match=r"Sleeps cannot be restored: env\.data is .* sleep"):
        envs.adapt(Sleeps)


def test_the_world_names_the_simulators_version() -> None:
    assert f"mujoco {mujoco.__version__}" in envs.adapt("Hopper-v5").world
    assert envs.adapt("Hopper-v5").world != envs.adapt("Walker2d-v5").world


def test_named_views_of_a_simulator_stay_views() -> None:
    def make() -> gymnasium.Env[Any, Any]:
        env = gymnasium.make("Hopper-v5")
        env.unwrapped.torso = env.unwrapped.data.body("torso")  # type: ignore[attr-defined]
        env.unwrapped.joint = mujoco.mjtJoint.mjJNT_HINGE  # type: ignore[attr-defined]
        return env

    env = envs.adapt(make, 2)
    env.reset(seed=0)
    saved, body = env.snapshot(), [each.unwrapped.torso.xpos.copy() for each in env.envs]
    env.step(env.action_space.sample())
    env.restore(saved)
    for each, position in zip(env.envs, body, strict=True):
        np.testing.assert_array_equal(each.unwrapped.torso.xpos, position)
