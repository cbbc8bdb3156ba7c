"""Grid worlds: Level (fixed), GridState (moves), rules (a pure step) and thin faces."""

from delegate.bank import NOMINAL, SHIFTED
from delegate.envs.grid.corner import Corner
from delegate.envs.grid.facts import LevelFacts
from delegate.envs.grid.four_rooms import FourRooms
from delegate.envs.grid.level import ACTIONS, Level
from delegate.envs.grid.observation import read_levels
from delegate.envs.grid.plain import PlainGrid
from delegate.envs.grid.rules import GridState
from delegate.envs.grid.single import GridEnv
from delegate.envs.grid.solvers import distances, onset_of_divergence, shortest_path_actions
from delegate.envs.grid.trap_grid import TrapGrid
from delegate.envs.grid.vector import GridVectorEnv

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
