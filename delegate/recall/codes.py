"""How states and actions enter the networks and leave them again."""

from __future__ import annotations

from abc import ABC, abstractmethod

import gymnasium
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from delegate.recall.config import RecallModelConfig
from delegate.recall.heads import Categorical, Gaussians, Head, Variance
from delegate.recall.normaliser import Normaliser
from delegate.recall.transitions import Space


class StateCode(ABC):
    """The state that is known, the anchor, and the other one, which a network predicts.

    width: of what the networks see of the anchor (count)
    """

    width: int
    head: Head
    normalisers: dict[str, Normaliser]

    @property
    def log_volume(self) -> float:
        """log of the volume of one normalised unit, in units of the data."""
        return 0.0

    def observe(self, anchor: np.ndarray, other: np.ndarray) -> None:
        """Update what is known of scales."""
        for name, kept in self.normalisers.items():
            change = np.subtract(other, anchor, dtype=np.float64)
            kept.observe(anchor if name == "state" else change)

    def check(self, anchor: np.ndarray, other: np.ndarray) -> None:
        """Raises ValueError where no choice leads from an anchor to its other state."""
        return None

    @abstractmethod
    def features(self, anchor: Tensor, layout: Tensor | None) -> Tensor:
        """float32 [B, width]"""

    @abstractmethod
    def target(self, anchor: Tensor, other: Tensor) -> Tensor:
        """What the head is to give to reach `other`; -1 where no choice does."""

    @abstractmethod
    def reach(self, anchor: Tensor, target: Tensor) -> Tensor:
        """The other state, given what the head gave."""

    def settled(self, drawn: Tensor) -> Tensor:
        """What the head has drawn, but for what never varied."""
        return drawn

    def choices(self, anchor: Tensor) -> Tensor | None:
        """bool [B, head.width], False where a choice leads nowhere; None where all lead."""
        return None

    def supported(self, state: Tensor) -> Tensor | None:
        """bool [B], where there were data; None for everywhere."""
        return None


class BoxState(StateCode):
    """Vectors: the network says how the normalised vector changes. A coordinate whose change never
    varied, as of a goal that stays through an episode, changes so in traces too, exactly."""

    def __init__(self, size: int, config: RecallModelConfig, device: torch.device) -> None:
        self.width = size
        self._support = config.support
        self._states, self._changes = Normaliser(size, device), Normaliser(size, device)
        self.normalisers = {"state": self._states, "change": self._changes}
        variance: Variance = "from input" if config.state_variance_from_input else "learned"
        self.head = Gaussians("state", size, config.components, config.members, variance)

    @property
    def log_volume(self) -> float:
        return self._changes.log_volume

    def features(self, anchor: Tensor, layout: Tensor | None) -> Tensor:
        return self._states.normalise(anchor)

    def target(self, anchor: Tensor, other: Tensor) -> Tensor:
        return self._changes.normalise(other.double() - anchor)

    def reach(self, anchor: Tensor, target: Tensor) -> Tensor:
        return (anchor + self._changes.restore(target)).float()

    def settled(self, drawn: Tensor) -> Tensor:
        return self._changes.settle(drawn)

    def supported(self, state: Tensor) -> Tensor | None:
        if self._support is None:
            return None
        return (self._states.normalise(state).abs() <= self._support).all(-1)


class DiscreteState(StateCode):
    """Indices: the network says which state it was."""

    def __init__(self, states: int) -> None:
        self.width = states
        self.head = Categorical(states)
        self.normalisers = {}

    def features(self, anchor: Tensor, layout: Tensor | None) -> Tensor:
        return one_hot(anchor, self.width).float()

    def target(self, anchor: Tensor, other: Tensor) -> Tensor:
        return other

    def reach(self, anchor: Tensor, target: Tensor) -> Tensor:
        return target


class GridState(StateCode):
    """Cells of a grid: the network says which way the other cell lies, or that it is the same.

    It sees the cell and, in each plane of the layout and in one of the world's edge, the 3 x 3
    cells around it.
    """

    def __init__(self, height: int, width: int, planes: int, device: torch.device) -> None:
        self._height, self._width, self._planes = height, width, planes
        self._cells = height * width
        self.width = self._cells + 9 * (planes + 1)
        self.head = Categorical(5)
        self.normalisers = {}
        self._moves = torch.tensor([0, -width, 1, width, -1], device=device)
        cell = torch.arange(self._cells, device=device)
        row, column = cell // width, cell % width
        inside = [row >= 0, row > 0, column < width - 1, row < height - 1, column > 0]
        self._inside = torch.stack(inside, 1)
        corner = row * (width + 2) + column
        steps = [down * (width + 2) + right for down in range(3) for right in range(3)]
        self._around = corner[:, None] + torch.tensor(steps, device=device)
        edge = pad(torch.zeros(height, width, device=device), (1, 1, 1, 1), value=1.0)
        self._edge = edge.flatten()[self._around]

    def features(self, anchor: Tensor, layout: Tensor | None) -> Tensor:
        seen = [one_hot(anchor, self._cells).float(), self._edge[anchor]]
        if layout is not None and self._planes:
            planes = layout.view(-1, self._planes, self._height, self._width)
            around = self._around[anchor][:, None].expand(-1, self._planes, -1)
            seen.append(pad(planes, (1, 1, 1, 1)).flatten(2).gather(2, around).flatten(1))
        return torch.cat(seen, 1)

    def target(self, anchor: Tensor, other: Tensor) -> Tensor:
        # A narrow grid has two ways for one difference: only the one that stays inside counts.
        leads = (anchor[:, None] + self._moves == other[:, None]) & self._inside[anchor]
        return torch.where(leads.any(1), leads.int().argmax(1), -1)

    def check(self, anchor: np.ndarray, other: np.ndarray) -> None:
        device = self._moves.device
        known, missing = torch.tensor(anchor, device=device), torch.tensor(other, device=device)
        apart = self.target(known, missing) < 0
        if apart.any():
            row = int(apart.int().argmax())
            raise ValueError(
                f"row {row}: cells {int(other[row])} and {int(anchor[row])} are not neighbours; "
                "leave grid unset where a step may go further"
            )

    def reach(self, anchor: Tensor, target: Tensor) -> Tensor:
        return anchor + self._moves[target]

    def choices(self, anchor: Tensor) -> Tensor | None:
        return self._inside[anchor]


class ActionCode(ABC):
    """An action as something to see and as something to predict; the names are StateCode's."""

    width: int
    head: Head
    normalisers: dict[str, Normaliser]

    @property
    def log_volume(self) -> float:
        """log of the volume of one normalised unit, in units of the data."""
        return 0.0

    def observe(self, action: np.ndarray) -> None:
        """Update what is known of scales."""
        for kept in self.normalisers.values():
            kept.observe(action)

    @abstractmethod
    def features(self, action: Tensor) -> Tensor:
        """float32 [B, width]"""

    @abstractmethod
    def target(self, action: Tensor) -> Tensor:
        """What the head is to give."""

    @abstractmethod
    def value(self, target: Tensor) -> Tensor:
        """The action, within its space."""


class BoxAction(ActionCode):
    """Vectors, normalised; what is drawn is clipped to the space, and what never varied stays."""

    def __init__(
        self, space: gymnasium.spaces.Box, config: RecallModelConfig, device: torch.device
    ) -> None:
        self.width = space.shape[0]
        self._low = torch.as_tensor(space.low, device=device).float()
        self._high = torch.as_tensor(space.high, device=device).float()
        self._actions = Normaliser(self.width, device)
        self.normalisers = {"action": self._actions}
        variance: Variance = "learned" if config.learn_action_variance else "one"
        self.head = Gaussians("action", self.width, 1, config.members, variance)

    @property
    def log_volume(self) -> float:
        return self._actions.log_volume

    def features(self, action: Tensor) -> Tensor:
        return self._actions.normalise(action)

    def target(self, action: Tensor) -> Tensor:
        return self._actions.normalise(action)

    def value(self, target: Tensor) -> Tensor:
        settled = self._actions.restore(self._actions.settle(target))
        return torch.clamp(settled, self._low, self._high)


class DiscreteAction(ActionCode):
    """Indices."""

    def __init__(self, actions: int) -> None:
        self.width = actions
        self.head = Categorical(actions)
        self.normalisers = {}

    def features(self, action: Tensor) -> Tensor:
        return one_hot(action, self.width).float()

    def target(self, action: Tensor) -> Tensor:
        return action

    def value(self, target: Tensor) -> Tensor:
        return target


def state_code(space: Space, config: RecallModelConfig, device: torch.device) -> StateCode:
    """Raises ValueError where grid, layout and space do not fit together."""
    if config.grid is None:
        if isinstance(space, gymnasium.spaces.Box):
            return BoxState(space.shape[0], config, device)
        return DiscreteState(int(space.n))
    height, width = config.grid
    cells = height * width
    if not isinstance(space, gymnasium.spaces.Discrete) or space.n != cells:
        raise ValueError(
            f"grid is {height} x {width} and states are {space}; give Discrete({cells})"
        )
    planes, rest = divmod(config.layout_size, cells)
    if rest:
        raise ValueError(
            f"layout_size is {config.layout_size} and the grid has {cells} cells; "
            "give a whole number of planes"
        )
    return GridState(height, width, planes, device)


def action_code(space: Space, config: RecallModelConfig, device: torch.device) -> ActionCode:
    """How actions of that space are seen and predicted."""
    if isinstance(space, gymnasium.spaces.Box):
        return BoxAction(space, config, device)
    return DiscreteAction(int(space.n))
