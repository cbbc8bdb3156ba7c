"""One trial: an arm, or a child alone, on one seed. A pure function of scenario and seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from delegate import monitors
from delegate.agents import Agent, Member, Policy
from delegate.backtrack.random_key import draw
from delegate.bank import Bank
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import PROTOCOLS, Audit, RandomRollback
from delegate.delegation.protocols import Protocol as DelegationProtocol
from delegate.delegation.restores import check_restores
from delegate.delegation.runtime import Delegation
from delegate.delegation.watch import Watcher
from delegate.drawing import packed
from delegate.monitors.calibration import Threshold, Ville, calibrate
from delegate.monitors.goal_odds import GoalPosterior
from delegate.monitors.monitor import Monitor, Reference, Steps, World
from delegate.monitors.stream import peaks
from delegate.recalling import STEPS, Recaller
from delegate.scenario import (
    Actor,
    AuditArm,
    Child,
    OpenArm,
    RandomRollbackArm,
    Scenario,
)

ALPHA = 0.05
"""α of a threshold by Ville's inequality where the scenario gives none"""

CHECKED_RESTORES = 16
"""rolled-back sub-episodes replayed from their snapshot in each trial"""

Tables = dict[str, dict[str, np.ndarray]]
OnTick = Callable[[int, int], None]


class Source(Protocol):
    """Where worlds and agents come from; run.py gives the one that ships."""

    def bank(self, seed: int, split: str) -> Bank:
        """The levels of one split ("train", "calibrate" or "test") of one seed."""
        ...

    def policy(self, actor: Actor) -> Policy:
        """Who acts in the world."""
        ...

    def relay(self) -> Agent:
        """A child that delegates."""
        ...

    def root(self) -> Agent:
        """Who delegates at the root."""
        ...


@dataclass(frozen=True)
class Trial:
    """Which trial: `alone:<child>` or the name of an arm, and the seed."""

    name: str
    seed: int

    @property
    def child(self) -> str | None:
        """The child that works alone, None for an arm."""
        return self.name.removeprefix("alone:") if self.name.startswith("alone:") else None

    @property
    def folder(self) -> str:
        """Where it lies under `trials/`."""
        return f"{self.name.replace(':', '-')}/{self.seed}"


def trials(scenario: Scenario, seeds: tuple[int, ...]) -> list[Trial]:
    """Every trial of a run: each seed's children alone, then its arms."""
    names = [f"alone:{child}" for child in scenario.children] + list(scenario.arms)
    return [Trial(name, seed) for seed in seeds for name in names]


class Laboratory:
    """All trials of one seed share what is learned from its nominal splits.

    Monitors are fitted on the train split and calibrated on the calibrate split, both played
    by the first trusted child alone; the test split is not looked at. A learned model has seen what
    the parent has, in the train split.

    artefacts: folder in which what is learned is kept, to be read again; None keeps nothing
    """

    def __init__(
        self, scenario: Scenario, source: Source, seed: int, artefacts: Path | None = None
    ) -> None:
        self.scenario, self.source, self.seed = scenario, source, seed
        self._recaller = Recaller(scenario.recall, seed)
        self._artefacts = artefacts
        self.monitors: dict[str, Monitor] = {}
        self.calibrations: dict[str, Threshold] = {}
        self._played: dict[str, Mapping[str, np.ndarray]] = {}
        if scenario.monitors:
            self._fit_and_calibrate()
        self.test = source.bank(seed, "test")
        self._watch(self.test)

    def play(self, trial: Trial, on_tick: OnTick | None = None) -> Delegation:
        """Run a trial to its end."""
        played = self.delegation(trial.name)
        played.run(on_tick)
        self.remember(trial.name, played.sub_episodes_table())
        check_restores(played)
        return played

    def remember(self, name: str, sub_episodes: Mapping[str, np.ndarray]) -> None:
        """Take over the table of a trial that was played elsewhere: an arm that copies its
        rollbacks then need not play it again."""
        self._played[name] = sub_episodes

    def tables(self, played: Delegation) -> Tables:
        """The arrays of a finished trial, by file."""
        steps = played.steps_table()
        for state, place in (("state", "place"), ("next_state", "next_place")):
            steps[place] = self.test.places(steps[state])
        return {
            "steps.npz": steps,
            "watch.npz": played.watch_table(),
            "sub_episodes.npz": played.sub_episodes_table(),
            **self._levels,
        }

    @cached_property
    def _levels(self) -> Tables:
        """What is the same in every trial of the seed."""
        drawings = [self.test.drawing(level) for level in range(self.test.count)]
        return {"levels.npz": levels_table(self.test), "drawings.npz": packed(drawings)}

    def calibration_json(self) -> str:
        """What calibration.json holds; the same in every trial of a seed.

        landmarks: the names that `named` counts in · coincident: by monitor, those that training
        did not tell from the assigned goal
        """
        record: dict[str, Any] = {
            "target": self.scenario.calibration.false_alarm_rate,
            "monitors": {name: each.to_json() for name, each in self.calibrations.items()},
            "landmarks": list(self.test.landmarks.names),
            "coincident": {
                name: list(monitor.coincident)
                for name, monitor in self.monitors.items()
                if isinstance(monitor, GoalPosterior)
            },
        }
        return json.dumps(record, sort_keys=True, allow_nan=False)

    def delegation(self, name: str) -> Delegation:
        """A trial about to be played. name: as Trial has it"""
        child = Trial(name, self.seed).child
        if child is not None:
            none = PROTOCOLS["none"]()
            return self._on(self.test, (child,), none, self._watchers(), None)
        arm = self.scenario.arms[name]
        crew = self.scenario.crew
        monitor = getattr(arm, "monitor", None)
        protocol: DelegationProtocol
        if isinstance(arm, AuditArm):
            protocol = Audit(arm.audits, self.seed)
        elif isinstance(arm, RandomRollbackArm):
            if arm.like not in self._played:
                self.play(Trial(arm.like, self.seed))
            protocol = RandomRollback.matching(self._played[arm.like], self.test.split, self.seed)
        elif isinstance(arm, OpenArm):
            kind = PROTOCOLS[arm.protocol]
            protocol = kind(kind.Settings(**arm.settings), self.seed)
        else:
            protocol = PROTOCOLS[arm.protocol]()
        if protocol.trusted_only:
            crew = self.scenario.trusted
        watchers = [w for w in self._watchers() if w.name == monitor]
        return self._on(self.test, crew, protocol, watchers, monitor)

    def _on(
        self,
        bank: Bank,
        crew: tuple[str, ...],
        protocol: DelegationProtocol,
        watchers: list[Watcher],
        alarm_on: str | None,
    ) -> Delegation:
        members = self._members(crew)
        return self._begun(bank, members, protocol, self.seed, watchers, alarm_on)

    def _begun(
        self,
        bank: Bank,
        members: Sequence[Member],
        protocol: DelegationProtocol,
        seed: int,
        watchers: Sequence[Watcher] = (),
        alarm_on: str | None = None,
    ) -> Delegation:
        bounds = self.scenario.delegation
        bank.env.reset(seed=seed)
        return Delegation(
            bank,
            members,
            protocol,
            Bounds(
                budget=bounds.budget,
                interactions=bounds.interactions,
                max_depth=bounds.max_depth,
                max_spawns=bounds.max_spawns,
                discount=self.scenario.world.discount,
            ),
            # an agent draws from its seed and its level, whatever else is in the bank
            draw(np.full(bank.count, seed, np.uint64), bank.seed.astype(np.uint64)),
            watchers,
            alarm_on,
            CHECKED_RESTORES,
        )

    def _members(self, crew: tuple[str, ...]) -> list[Member]:
        """The root, then every child in the scenario's order, so numbers mean the same
        in every trial."""
        number = {name: i + 1 for i, name in enumerate(self.scenario.children)}
        members = [Member("parent", self.source.root(), crew=tuple(number[name] for name in crew))]
        for name, child in self.scenario.children.items():
            own = tuple(number[member] for member in child.crew or ())
            members.append(Member(name, self._agent(child), child.trusted, own))
        return members

    def _agent(self, child: Child) -> Agent:
        return self.source.relay() if child.crew is not None else self.source.policy(child)

    def _watchers(self) -> list[Watcher]:
        return [
            Watcher(
                name,
                monitor,
                self._statistic(name),
                self.calibrations[name].threshold if name in self.calibrations else np.inf,
            )
            for name, monitor in self.monitors.items()
        ]

    def _statistic(self, name: str) -> monitors.Statistic:
        section = self.scenario.monitors[name]
        chosen = section.statistic or self.monitors[name].default_statistic
        return monitors.make_statistic(chosen, **section.statistic_settings)

    def _fit_and_calibrate(self) -> None:
        trusted, none = self.scenario.trusted[:1], PROTOCOLS["none"]
        train = self.source.bank(self.seed, "train")
        played = self._on(train, trusted, none(), [], None)
        played.run()
        reference = recorded(played, train)
        self._recaller.count(reference)
        if self._recaller.learns:
            self._learn(train, reference)
        worlds = self._worlds(train)
        for name, section in self.scenario.monitors.items():
            kind = monitors.monitor_class(section.monitor)
            recall = self.scenario.recall
            shared = {"length": recall.length, "discount": recall.discount}
            shared |= self._recaller.discounts(train)
            shared = {key: shared[key] for key in shared if key in kind.Settings.model_fields}
            self.monitors[name] = monitors.make(section.monitor, **{**shared, **section.settings})
            self.monitors[name].fit(reference, worlds[self._backward(name)])
            if (bound := self._bound(name)) is not None:
                self.calibrations[name] = bound
        held_out = self.source.bank(self.seed, "calibrate")
        self._watch(held_out)
        uncalibrated = [each for each in self._watchers() if each.name not in self.calibrations]
        if not uncalibrated:
            return
        played = self._on(held_out, trusted, none(), uncalibrated, None)
        played.run()
        table = played.watch_table()
        for name in (each.name for each in uncalibrated):
            _, highest = peaks(table[f"value/{name}"], table["row"])
            unscored = np.full(held_out.count - len(highest), np.nan)
            self.calibrations[name] = calibrate(
                np.concatenate([highest, unscored]),
                self.scenario.calibration.false_alarm_rate,
                self._statistic(name).name,
            )

    def _bound(self, name: str) -> Ville | None:
        """Its threshold by Ville's inequality, None where it is to be calibrated.

        Raises ValueError where the two do not go together.
        """
        section, monitor = self.scenario.monitors[name], self.monitors[name]
        if (section.threshold or monitor.default_threshold) == "ville":
            alpha = ALPHA if section.alpha is None else section.alpha
            try:
                return Ville(alpha, monitor.log_prior_odds, self._statistic(name).name)
            except ValueError as error:
                raise ValueError(f"monitors.{name}.threshold: {error}") from None
        if section.alpha is not None:
            raise ValueError(
                f"monitors.{name}.alpha: its threshold is calibrated; set "
                "calibration.false_alarm_rate, or threshold: ville where the score is odds"
            )
        return None

    def _watch(self, bank: Bank) -> None:
        """The monitors look at another bank of levels from now on."""
        worlds = self._worlds(bank) if self.monitors else {}
        for name, monitor in self.monitors.items():
            monitor.bind(worlds[self._backward(name)])

    def _backward(self, monitor: str) -> str:
        return self.scenario.monitors[monitor].backward or self.scenario.recall.backward

    def keep(self) -> None:
        """Write what was learned, unless it is there as it was learned."""
        if self.monitors and self._recaller.learns and self._artefacts is not None:
            self._recaller.keep(self._artefacts)

    def _learn(self, train: Bank, reference: Reference) -> None:
        """Learn from the parent's play or from the nominal sub-episodes, if it was not before."""
        if self._artefacts is not None and self._recaller.found(self._artefacts, train):
            return
        nominal = self.scenario.recall.data == "nominal"
        self._recaller.learn([reference.steps] if nominal else self._wander(train), train)

    def _wander(self, train: Bank) -> list[Steps]:
        """What the parent sees when it sends itself from place to place, level by level."""
        recall = self.scenario.recall
        actors = recall.play or (self.scenario.parent.alone,)
        manners = [self.source.policy(actor) for actor in actors]
        bank, seen, each = copy.copy(train), list[Steps](), np.zeros(len(manners), int)
        rng = np.random.default_rng([self.seed, 2])
        while each.sum() < (recall.steps or STEPS):
            now = int(each.argmin())
            play = Member("play", manners[now])
            members = [Member("parent", self.source.root(), crew=(1,)), play]
            sent = [rng.choice(np.flatnonzero(places)) for places in train.landmarks.places]
            bank.assigned = np.array(sent, np.int32)
            played = self._begun(bank, members, PROTOCOLS["none"](), int(rng.integers(2**31)))
            played.run()
            seen.append(recorded(played, bank).steps)
            each[now] += len(seen[-1])
        return seen

    def _worlds(self, bank: Bank) -> dict[str, World]:
        """What monitors may know of a bank, by the backward policy they recall with."""
        kinds = {self._backward(monitor) for monitor in self.scenario.monitors}
        return {name: self._recaller.world(bank, name) for name in sorted(kinds)}


def levels_table(bank: Bank) -> dict[str, np.ndarray]:
    """What levels.npz holds: one entry a level."""
    return {
        "split": bank.split,
        "seed": bank.seed,
        "goal": bank.assigned,
        "proxy_goal": bank.proxy,
        **bank.columns(),
    }


def recorded(played: Delegation, bank: Bank) -> Reference:
    """The environment steps of a finished trial, as monitors learn from them."""
    table = played.steps_table()
    order = np.lexsort((table["clock"], table["row"]))
    row = table["row"][order]
    last = np.append(row[1:] != row[:-1], True)
    steps = Steps(
        level=row.astype(np.int32),
        goal=bank.assigned[row].astype(np.int32),
        state=table["state"][order],
        action=table["action"][order],
        next_state=table["next_state"][order],
        ended=last,
    )
    return Reference(steps, row.astype(np.int64))
