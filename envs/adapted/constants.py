"""Attributes that never change, or must not: they are neither saved nor compared."""

from __future__ import annotations

_CONSTANT: dict[tuple[str, str], frozenset[str]] = {
    ("gymnasium.core", "Env"): frozenset(
        # how it was made
        {"spec", "_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs"}
    ),
    # readings of the wall clock
    ("gymnasium.wrappers.common", "RecordEpisodeStatistics"): frozenset(
        {"episode_start_time", "time_queue"}
    ),
    # tables of the dynamics, and names of files that differ from one instance to the next
    ("gymnasium.envs.toy_text.frozen_lake", "FrozenLakeEnv"): frozenset({"P"}),
    ("gymnasium.envs.toy_text.cliffwalking", "CliffWalkingEnv"): frozenset({"P"}),
    ("gymnasium.envs.toy_text.taxi", "TaxiEnv"): frozenset({"P"}),
    ("gymnasium.envs.mujoco.mujoco_env", "MujocoEnv"): frozenset({"fullpath"}),
    ("gymnasium_robotics.envs.maze.maze", "MazeEnv"): frozenset({"tmp_xml_file_path"}),
    ("gymnasium_robotics.envs.maze.maze_v4", "MazeEnv"): frozenset({"tmp_xml_file_path"}),
}


def constant_names(cls: type) -> frozenset[str]:
    """The attributes of an environment of that class that are left as they are."""
    if cls not in _known:
        named = (_CONSTANT.get((base.__module__, base.__name__), ()) for base in cls.__mro__)
        _known[cls] = frozenset[str]().union(*named)
    return _known[cls]


_known: dict[type, frozenset[str]] = {}
