"""What the monitors of a run look through: tables, or a model of what the parent has seen."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delegate.bank import Bank
from delegate.files import write_whole
from delegate.monitors.monitor import Reference, Steps, World
from delegate.recall import (
    ExactBacktrackingModel,
    ExactReachability,
    Reachability,
    RecalledReachability,
    Transitions,
    TransitionTable,
    grid_neighbours,
)
from delegate.recall.config import CriticConfig
from delegate.recall.reachability import StateIndex
from delegate.scenario import RecallSection

UPDATES, STEPS = 2_000, 40_000
"""of a learned model, where the scenario gives none: of the optimiser, and of the parent's play"""
ENDS = 4_000
"""states that traces are recalled from for a critic"""


class Recaller:
    """Gives monitors their world, in any bank of levels.

    section: of the scenario · seed: of what is learned
    """

    def __init__(self, section: RecallSection, seed: int) -> None:
        self.section, self.seed = section, seed
        self._reference: Reference | None = None
        self._model: Any = None
        self._file = ""

    @property
    def learns(self) -> bool:
        """Whether a model is to be learned first."""
        return self.section.model == "learned"

    def count(self, reference: Reference) -> None:
        """Nominal sub-episodes, by which the backward policy `counted` goes."""
        self._reference = reference

    def discounts(self, bank: Bank) -> dict[str, Any]:
        """λ that monitors are to average over where they have learned others than usual."""
        if not _has_vectors(bank):
            return {}
        usual = CriticConfig.model_fields["discounts"].default
        return {"discounts": self.section.discounts or usual}

    def learn(self, seen: Sequence[Steps], bank: Bank) -> None:
        """Learn how states come about from steps in that bank's levels, and from nothing else."""
        self._model = self._new(bank)
        if _has_vectors(bank):
            self._model.fit(self._pairs(seen, bank))
            return
        # staying says nothing about where one came from
        steps = [part.take(~part.stays) for part in seen]
        state, action, after, level = (
            np.concatenate([getattr(part, name) for part in steps])
            for name in ("state", "action", "next_state", "level")
        )
        self._model.fit(
            Transitions(state, action, after, None, bank.layout(level)),
            steps=self.section.updates or UPDATES,
        )

    def found(self, folder: Path, bank: Bank) -> bool:
        """Take over what was learned before, if it is in that folder, whole and unchanged.

        The name of its file holds the hash of its content; anything else is learned again.
        """
        for file in sorted(folder.glob(f"recall-{self.seed}-*.safetensors")):
            with contextlib.suppress(OSError, ValueError):
                if file.name == self._name(file.read_bytes()):
                    self._model = self._new(bank)
                    self._model.load(file)
                    self._file = file.name
        return bool(self._file)

    def keep(self, folder: Path) -> None:
        """Write what was learned, once; what else had its place goes."""
        if self._file and (folder / self._file).exists():
            return
        folder.mkdir(exist_ok=True)
        content = self._model.content()
        self._file = self._name(content)
        write_whole(folder / self._file, content)
        for file in folder.glob(f"recall-{self.seed}-*.safetensors"):
            if file.name != self._file:
                file.unlink(missing_ok=True)

    def _name(self, content: bytes) -> str:
        return f"recall-{self.seed}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"

    def world(self, bank: Bank, backward: str) -> World:
        """What monitors may know of those levels. backward: which policy is recalled with

        Raises ValueError for a bank that has no table, and no learned model.
        """
        table, places = bank.table(), bank.landmarks.places
        if table is None:
            if not self.learns:
                raise ValueError(
                    "recall.model: exact needs the tables of a finite world, and the states of "
                    "this one are vectors; set `model: learned`"
                )
            learned = self._model.of(bank.goals, _columns(bank))
            named = bank.landmarks
            return World(None, bank.features, learned, named, bank.planner, bank.goals)
        weights: Any = self._counted(table) if backward == "counted" else backward
        if self.learns:
            reach: Reachability = self._learned(bank, table.next_state.shape[2])
        else:
            reach = ExactReachability(table, weights=weights, states=places)
        model = ExactBacktrackingModel(table, weights)
        return World(model, bank.features, reach, bank.landmarks, bank.planner, bank.goals)

    def _new(self, bank: Bank) -> Any:
        if not _has_vectors(bank):
            return self._backwards(bank)
        from delegate.recall import LearnedReachability

        given = {"discounts": self.section.discounts, "updates": self.section.updates}
        settings: Any = {name: value for name, value in given.items() if value is not None}
        return LearnedReachability(bank.goals, _columns(bank), seed=self.seed, **settings)

    def _pairs(self, seen: Sequence[Steps], bank: Bank) -> Any:
        """What a critic learns from. Each part holds its steps by level, in time order."""
        from delegate.recall import RecalledPairs, RememberedPairs

        state, action, after, ended = (
            np.concatenate([getattr(part, name) for part in seen])
            for name in ("state", "action", "next_state", "ended")
        )
        if self.section.pairs != "recalled":
            episode = np.cumsum(np.append(0, ended[:-1]))
            return RememberedPairs.of_steps(state, after, episode)
        model = self._backwards(bank)
        model.fit(Transitions(state, action, after), steps=UPDATES)
        return RecalledPairs(model, state, ENDS, self.section.length, self.seed)

    def _backwards(self, bank: Bank) -> Any:
        from delegate.recall import LearnedBacktrackingModel

        env, settings = bank.env, dict(bank.model_settings())
        return LearnedBacktrackingModel(
            env.state_space, env.single_action_space, seed=self.seed, **settings
        )

    def _learned(self, bank: Bank, actions: int) -> RecalledReachability:
        model = self._model

        def log_prob(level: Any, state: Any, action: Any, after: Any) -> Any:
            return model.log_prob(state, action, after, layout=bank.layout(level))

        height, width = bank.model_settings()["grid"]
        near = grid_neighbours(height, width)
        return RecalledReachability(log_prob, near, actions, bank.landmarks.places)

    def _counted(self, table: TransitionTable, smoothing: float = 1.0) -> np.ndarray:
        """How often each state-action pair was taken over all reference levels, plus `smoothing`.

        returns float64 [S, A], weights of a backward policy shared by every level of a bank
        """
        assert self._reference is not None
        weights = np.full(table.next_state.shape[1:3], smoothing)
        steps = self._reference.steps
        np.add.at(weights, (steps.state, steps.action), 1.0)
        return weights


def _has_vectors(bank: Bank) -> bool:
    return bank.goals.scale is not None


def _columns(bank: Bank) -> np.ndarray:
    """The goals of each level that a child could be after: int32 [L, K], -1 after the last."""
    return StateIndex(bank.landmarks.places).listed
