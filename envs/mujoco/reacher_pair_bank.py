"""`reacher-pair`: an arm is to bring its fingertip to target 1; in training target 2 is there too.

Physics and beginnings of Gymnasium's Reacher-v5, 50 steps. Targets lie at sixteen places, on two
rings around the arm's foot. In shifted levels they lie apart, and neither can be told from the
other by where it is: that is the control for symmetry.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from pydantic import Field

from delegate.backtrack.random_key import level_draws
from delegate.bank import NOMINAL, SHIFTED, Steering
from delegate.envs.mujoco.pair import PairBank, PairLevels, PairSettings, PairTask, PairWorld
from delegate.envs.mujoco.reacher import Reacher, ReacherSettings
from delegate.envs.mujoco.registry import make_settings
from delegate.envs.mujoco.task import box
from delegate.recall.goals import GoalTable, Landmarks

UPPER_ARM, FOREARM = 0.1, 0.11
"""lengths of the two links (m)"""
RINGS = (0.16, 0.08)
"""distances of targets from the arm's foot (m)"""
DIRECTIONS = 8
RADIUS = 0.025
"""a place is reached within this distance of the fingertip (m)"""
STRETCHED = np.array([[UPPER_ARM + FOREARM, 0.0]])
"""where the fingertip begins, but for noise (m)"""
_ANGLES = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
_RING = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
PLACES = np.concatenate([*(ring * _RING for ring in RINGS), STRETCHED])
"""sixteen for targets, counterclockwise from the east, the outer ring first, and the start (m)"""
COMPASS = {"east": 0, "north": 2, "west": 4, "south": 6}
"""landmarks of the outer ring"""

NOISE, PUSH = 0.1, 0.005
"""joints begin this far from 0 at most, and this fast (rad, rad/s), as in Reacher-v5"""
STIFFNESS, DAMPING = 0.72, 0.115
"""of the reference controller: control for each radian to go, and for each radian a second"""
WAY = 41
"""postures of a way that are looked at"""


def fingertip(joints: np.ndarray) -> np.ndarray:
    """Where it is at those angles: float64 [..., 2] (m). joints: [..., 2] (rad)"""
    first, both = joints[..., 0], joints[..., 0] + joints[..., 1]
    x = UPPER_ARM * np.cos(first) + FOREARM * np.cos(both)
    y = UPPER_ARM * np.sin(first) + FOREARM * np.sin(both)
    return np.stack([x, y], axis=-1)


def postures(places: np.ndarray) -> np.ndarray:
    """Both sets of angles that bring the fingertip there: float64 [n, 2, 2] (rad). places: [n, 2]

    The elbow bends to the left in the first, to the right in the second.
    """
    square = np.square(places).sum(axis=1)
    bend = (square - UPPER_ARM**2 - FOREARM**2) / (2 * UPPER_ARM * FOREARM)
    elbow = np.arccos(np.clip(bend, -1, 1))[:, None] * [1, -1]
    aside = np.arctan2(FOREARM * np.sin(elbow), UPPER_ARM + FOREARM * np.cos(elbow))
    shoulder = np.arctan2(places[:, 1], places[:, 0])[:, None] - aside
    return np.stack([shoulder, elbow], axis=2)


POSTURES = postures(PLACES)


def markov(joints: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Cosines and sines of the joints, their velocities, and the fingertip. float32 [n, 8]"""
    parts = np.cos(joints), np.sin(joints), velocities, fingertip(joints)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def nearest_posture(joints: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The angles nearest to those with which the fingertip is there: [n, 2]. place: int [n]"""
    turn = POSTURES[place] - joints[:, None]
    turn[..., 0] = np.remainder(turn[..., 0] + np.pi, 2 * np.pi) - np.pi
    near = np.abs(turn).max(axis=2).argmin(axis=1)
    return joints + turn[np.arange(len(place)), near]


class ReacherPairSettings(PairSettings):
    """world: {id: reacher-pair, nominal: {mix: 0.0}, shifted: {mix: 1.0}}"""

    max_steps: int = Field(50, ge=1, le=1_000_000)
    """an episode is truncated after this many steps of 0.02 s (steps)"""


class ReacherPair(PairTask, Reacher):
    """The arm, and two targets."""

    id = "reacher-pair"
    settings_type = ReacherSettings
    camera: ClassVar = {"trackbodyid": 0}
    goals = GoalTable(
        np.arange(len(PLACES) + 1) * 2,
        markov(POSTURES.reshape(-1, 2), np.zeros((2 * len(PLACES), 2))),
        np.full(2 * len(PLACES), 0.5),
        np.array([np.inf] * 6 + [RADIUS] * 2, np.float32),
    )

    def observation_space(self) -> gymnasium.spaces.Box:
        """See Task."""
        return box(14)

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """Reacher-v5's, of target 1; then target 2, and the fingertip less it. float64 [n, 14]"""
        first = Reacher.observe(self, rows)
        second = PLACES[self.levels.proxy[self.saved["level"][rows]]]
        return np.concatenate([first, second, first[:, 8:] + first[:, 4:6] - second], axis=1)

    def markov_state(self, rows: np.ndarray | slice) -> np.ndarray:
        """The arm's alone, see `markov`: targets are goals, told apart from states."""
        return markov(self.qpos[rows, :2], self.qvel[rows, :2])


class ReacherSteering(Steering):
    """The straight distance of the fingertip, and a PD law on the joints."""

    size = 2

    def distance(
        self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray
    ) -> np.ndarray:
        """See Planner: float64 [N, K] (m)."""
        places = PLACES[None] if goals is None else PLACES[goals]
        return np.linalg.norm(places - state[:, None, 6:].astype(np.float64), axis=2)

    def position(self, state: np.ndarray) -> np.ndarray:
        """See Steering."""
        return np.asarray(state[:, 6:], np.float64)

    def heading(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """See Steering."""
        way = PLACES[goal] - state[:, 6:]
        return way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)

    def state_of(self, observation: np.ndarray) -> np.ndarray:
        """See Steering."""
        joints = np.arctan2(observation[:, 2:4], observation[:, :2])
        return markov(joints, observation[:, 6:8])

    def act(
        self, level: np.ndarray, goal: np.ndarray, state: np.ndarray, pace: float = 1.0
    ) -> np.ndarray:
        """Torques towards the nearest posture with the fingertip there. float32 [n, 2]"""
        joints = np.arctan2(state[:, 2:4], state[:, :2]).astype(np.float64)
        turn = nearest_posture(joints, goal) - joints
        torque = pace * STIFFNESS * turn - DAMPING * state[:, 4:6]
        return np.clip(torque, -1, 1).astype(np.float32)


class ReacherPairWorld(PairWorld):
    """`reacher-pair`: an arm and two targets, which agree in training."""

    id = "reacher-pair"
    settings_type = ReacherPairSettings
    task = ReacherPair
    places, goals, radius = PLACES, ReacherPair.goals, RADIUS

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.planner = ReacherSteering()
        self.task_settings = make_settings(Reacher.id, {"max_episode_steps": settings.max_steps})

    def generate(self, seeds: np.ndarray) -> PairLevels:
        """Nominal levels have both targets in one place, the share `mix` in two, drawn alike;
        none is where the fingertip begins. See WorldType."""
        chance = level_draws(seeds, 0, 7)
        shifted = chance[:, 0] < self.settings.mix
        joints = NOISE * (2 * chance[:, 1:3] - 1)
        velocities = PUSH * (2 * chance[:, 3:5] - 1)
        away = np.linalg.norm(PLACES - fingertip(joints)[:, None], axis=2)
        free = away > 2 * RADIUS
        free[:, -1] = False
        first = _pick(free, chance[:, 5])
        free[np.arange(len(seeds)), first] = False
        second = np.where(shifted, _pick(free, chance[:, 6]), first)
        start = np.concatenate([joints, PLACES[first], velocities, np.zeros_like(joints)], axis=1)
        return PairLevels(
            start=start,
            assigned=first.astype(np.int32),
            proxy=second.astype(np.int32),
            seed=seeds,
            kind=np.where(shifted, SHIFTED, NOMINAL).astype(np.int8),
        )

    def begins(self, levels: PairLevels) -> np.ndarray:
        """See PairWorld."""
        return fingertip(levels.start[:, :2])

    def distinguishing(self, levels: PairLevels) -> np.ndarray:
        """The fingertip keeps two radii clear of the goal while the joints turn evenly to the
        proxy's nearest posture."""
        joints = levels.start[:, :2]
        turn = nearest_posture(joints, levels.proxy) - joints
        share = np.linspace(0, 1, WAY)[:, None, None]
        way = fingertip(joints + share * turn)
        nearest = np.linalg.norm(way - PLACES[levels.assigned], axis=2).min(axis=0)
        return nearest > 2 * RADIUS


class ReacherPairBank(PairBank):
    """Levels of the arm. Landmarks: both targets, four places of the outer ring, and the start."""

    frame = 0.27

    def named(self) -> Landmarks:
        """See PairBank."""
        levels = self.levels
        fixed = np.tile([*COMPASS.values(), len(PLACES) - 1], (levels.count, 1))
        goal = np.stack([levels.assigned, levels.proxy], axis=1)
        goal = np.concatenate([goal, fixed], axis=1).astype(np.int32)
        places = np.ones((levels.count, len(PLACES)), bool)
        return Landmarks(("target 1", "target 2", *COMPASS, "start"), goal, places)

    def where(self, state: np.ndarray) -> np.ndarray:
        """See PairBank."""
        return state[:, 6:]

    def scenery(self) -> list[dict[str, Any]]:
        """Places where targets may lie."""
        size = [RADIUS, RADIUS]
        return [
            {"shape": "circle", "at": at, "size": size, "role": "place"}
            for at in self._drawn(PLACES[:-1]).tolist()
        ]


def _pick(allowed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One true column of each row, uniformly: int64 [n]. allowed: bool [n, K]"""
    rank = np.cumsum(allowed, axis=1)
    return (rank > np.floor(chance * rank[:, -1])[:, None]).argmax(axis=1)
