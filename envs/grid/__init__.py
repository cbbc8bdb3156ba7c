"""Grid worlds: Level (fixed), GridState (moves), rules (a pure step) and thin faces."""

from envs.grid.corner import Corner
from envs.grid.facts import LevelFacts
from envs.grid.four_rooms import FourRooms
from envs.grid.level import ACTIONS, NOMINAL, SHIFTED, Level, concatenate
from envs.grid.plain import PlainGrid
from envs.grid.rendering import read_levels
from envs.grid.single import GridEnv
from envs.grid.solvers import distances, onset_of_divergence, shortest_path_actions
from envs.grid.state import GridState
from envs.grid.trap_grid import TrapGrid
from envs.grid.vector import GridVectorEnv

__all__ = [
    "ACTIONS",
    "NOMINAL",
    "SHIFTED",
    "Corner",
    "FourRooms",
    "GridEnv",
    "GridState",
    "GridVectorEnv",
    "Level",
    "LevelFacts",
    "PlainGrid",
    "TrapGrid",
    "concatenate",
    "distances",
    "onset_of_divergence",
    "read_levels",
    "shortest_path_actions",
]
