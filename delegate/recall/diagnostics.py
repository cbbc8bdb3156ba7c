"""What RecallTraces logs of how well its traces explain success: see `delegate.recall.variational`.

Beside an ExactBacktrackingModel of one level all of it is computed from the model's own table and
the policy of the moment, but for where the policy is, which is how often it was there, each state
once more than it was seen, and where traces end.

Otherwise it is estimated. Where the policy is and where traces end are a Gaussian, or frequencies;
the world is a ForwardModel, and as far as that is off (recall/forward_nll) the bounds lie too low.
Beside SAC, whose actions are bounded, only traces count of which none was clipped: where the policy
keeps to the bounds there may be none, and the lower bound is −inf, the upper one inf.
The upper one takes the latest runs that ended well for runs of today's policy. log p(R > L) is the
share of all remembered states that are worth it, as if T steps on were a time like any other: too
much where episodes are hardly longer than T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from delegate.recall import checkpoint
from delegate.recall.algorithms import Learner
from delegate.recall.density import deviations, log_density
from delegate.recall.exact import ExactBacktrackingModel
from delegate.recall.forward import ForwardModel
from delegate.recall.imitation import RecallConfig
from delegate.recall.kinds import new_model
from delegate.recall.learning import TransitionModel
from delegate.recall.model import BacktrackingModel
from delegate.recall.saving import stream_from
from delegate.recall.targets import Ends, Targets, entered, worthy
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps, TrajectoryBuffer
from delegate.recall.variational import computable, estimated_bounds, exact_bounds

_SAME = 1e-5
"""relative difference of two values of one state, computed among different others"""


def check_diagnosable(learner: Learner, model: Any) -> None:
    """Raise TypeError for a policy whose actions have no density, or what is no backtracking
    model."""
    if not isinstance(model, BacktrackingModel):
        kind = "no model" if model is None else f"a {type(model).__name__}"
        raise TypeError(
            f"traces come from {kind}, and diagnostics say how well a backtracking model explains "
            "success; give one of those, or leave diagnostics off"
        )
    space, actions = learner.original.space, learner.model.action_space
    state, action = (np.zeros((1, *part.shape), part.dtype) for part in (space, actions))
    if learner.log_prob(state, action) is None:
        raise TypeError(
            f"{type(learner.model).__name__} has no density over actions, which diagnostics need; "
            "use A2C, PPO, TRPO or SAC, or leave diagnostics off"
        )


Worths = Callable[[Steps], np.ndarray]
"""what each state entered is worth as a target, steps -> float64 [N]"""


def new_diagnostics(
    learner: Learner,
    model: BacktrackingModel,
    config: RecallConfig,
    worths: Worths,
    settings: dict[str, Any],
    seed: int,
) -> Diagnostics:
    """Computed where they can be.

    settings: of a forward model, where `model` is not learned; one that is learned shares its own
    seed: of the forward model and of what is drawn for it, which no other random stream notices
    """
    if computable(model):
        return ComputedDiagnostics(learner, model, config, worths)
    return EstimatedDiagnostics(learner, model, config, worths, settings, seed)


@dataclass(frozen=True)
class Recalled:
    """What one recall came to.

    targets: where traces end · best, ranked: the steps that is taken from, and their worth, [N]
    ends: the targets taken · traces: what was recalled from them
    """

    targets: Targets
    best: Steps
    ranked: np.ndarray
    ends: Ends
    traces: Traces


class Diagnostics(ABC):
    """The bounds that follow from a backtracking model and a policy.

    learner: whose policy and critic it is about
    """

    _parts: ClassVar[frozenset[str]] = frozenset()
    """names of `state`"""

    def __init__(
        self, learner: Learner, model: BacktrackingModel, config: RecallConfig, worths: Worths
    ) -> None:
        self.learner, self.model, self.config, self._worths = learner, model, config, worths

    @abstractmethod
    def measure(self, buffer: TrajectoryBuffer, recalled: Recalled) -> dict[str, float]:
        """What to log, by name (nats)."""

    def _event(self, every: Steps, recalled: Recalled) -> tuple[np.ndarray, np.ndarray]:
        """Which of the remembered steps entered what is worth no less than the least of the
        targets, bool [N]; and states like those in which traces may end."""
        ends = recalled.ends
        if isinstance(recalled.targets, str):
            worths, ranked = self._worths(every), recalled.ranked
            top = worthy(ranked, self.config.targets)
            least, among = float(ranked[top].min()), recalled.best.transitions.next_state[top]
        elif (ends.place >= 0).all():
            of_critic = self.learner.value, self.learner.model.gamma, self.learner.original.unit
            worths, among = self._worths(every), ends.states
            least = float(ends.entering(*of_critic).min())
        else:  # what entering them gives is not known
            worths, among = entered(every).beyond(self.learner.value), ends.states
            least = float(ends.beyond(self.learner.value).min())
        return worths >= least - _SAME * max(1.0, abs(least)), among

    def _log_policy(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        log_prob = self.learner.log_prob(state, action)
        assert log_prob is not None
        return log_prob

    def state(self) -> dict[str, Any]:
        """All that can change; see `load`."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what `state` gave; raises what `check` raises, changing nothing."""
        self.check(saved)

    def check(self, saved: dict[str, Any]) -> None:
        """Raise ValueError for what `state` cannot have given, or a model of other settings."""
        if saved.keys() != self._parts:
            raise ValueError("the saved diagnostics are of another version; start anew")


class ComputedDiagnostics(Diagnostics):
    """Of an exact model, whose table is the world."""

    model: ExactBacktrackingModel

    def measure(self, buffer: TrajectoryBuffer, recalled: Recalled) -> dict[str, float]:
        model, every = self.model, buffer.best()
        reached, among = self._event(every, recalled)
        visited, space = every.transitions, self.learner.original.space
        shares = np.bincount(among, minlength=model.num_states) / len(among)
        event = shares > 0
        event[visited.next_state[reached]] = True
        state, action = np.divmod(
            np.arange(model.num_states * model.num_actions), model.num_actions
        )
        policy = np.exp(self._log_policy(state, action)).reshape(model.num_states, -1)
        bounds = exact_bounds(
            model,
            model.table,
            policy / policy.sum(axis=1, keepdims=True),
            np.exp(log_density(visited.state, space)(np.arange(model.num_states))),
            shares,
            self.config.length,
            event=event,
        )
        return {
            "bound": bounds.lower,
            "log_evidence": bounds.log_evidence,
            "bound_upper": bounds.upper,
        }


class EstimatedDiagnostics(Diagnostics):
    """A forward model beside a backtracking model, and the bounds that follow from both."""

    _parts: ClassVar[frozenset[str]] = frozenset({"forward", "observed", "rng"})

    def __init__(
        self,
        learner: Learner,
        model: BacktrackingModel,
        config: RecallConfig,
        worths: Worths,
        settings: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__(learner, model, config, worths)
        shared = model.config.model_dump() if isinstance(model, TransitionModel) else settings
        forward = new_model("forward", learner, shared, seed)
        assert isinstance(forward, ForwardModel)
        self.forward = forward
        self._rng = np.random.default_rng([seed, 12])
        self._observed = 0

    def measure(self, buffer: TrajectoryBuffer, recalled: Recalled) -> dict[str, float]:
        told = self._learn(buffer)
        every = buffer.best()
        reached, among = self._event(every, recalled)
        space, visited = self.forward.state_space, every.transitions.state
        scale = deviations(visited) if isinstance(space, Box) else None
        with np.errstate(divide="ignore"):
            log_evidence = float(np.log(reached.mean()))
        bounds = estimated_bounds(
            self._drawn(recalled.traces),
            self._remembered(every, every.runs(self.config.length), reached),
            log_policy=self._log_policy,
            log_forward=self.forward.log_prob,
            log_start=log_density(visited, space, scale),
            log_ends=log_density(among, space, scale),
            log_evidence=log_evidence,
        )
        told |= {"bound": bounds.lower, "log_evidence": log_evidence}
        if not np.isnan(bounds.upper):
            told["bound_upper"] = bounds.upper
        return told

    def state(self) -> dict[str, Any]:
        return {
            "forward": checkpoint.packed(self.forward),
            "observed": self._observed,
            "rng": self._rng.bit_generator.state,
        }

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        checkpoint.unpack(self.forward, saved["forward"])
        self._observed = saved["observed"]
        self._rng = stream_from("the saved diagnostics", saved["rng"])

    def check(self, saved: dict[str, Any]) -> None:
        super().check(saved)
        checkpoint.check(self.forward, saved["forward"])
        stream_from("the saved diagnostics", saved["rng"])

    def _learn(self, buffer: TrajectoryBuffer) -> dict[str, float]:
        config = self.config
        new = buffer.latest(buffer.steps - self._observed)
        self.forward.observe(new.state, new.action, new.next_state)
        self._observed = buffer.steps
        losses = self.forward.fit(
            buffer.latest(len(buffer)), config.model_updates, config.model_batch, self._rng
        )
        return {"forward_nll": float(losses.mean())} if len(losses) else {}

    def _drawn(self, traces: Traces) -> Traces:
        """Those with an action on a bound of its space count as traces that stop sooner: such an
        action was clipped, and its log_prob is no density of what was recalled."""
        space = self.learner.action_space
        if not isinstance(space, Box):
            return traces
        within = (traces.actions > space.low) & (traces.actions < space.high)
        drawn = within.reshape(len(traces), -1).all(axis=1, keepdims=True)
        return replace(traces, valid=traces.valid & drawn)

    def _remembered(self, every: Steps, runs: np.ndarray, reached: np.ndarray) -> Traces | None:
        """The latest runs that end in a state worth it, as traces; as many as are recalled.

        What the policy did long ago it may hardly do now: log π would be far too low.
        """
        runs = runs[reached[runs[:, -1]]][-self.config.count :]
        if not len(runs):
            return None
        backwards, steps = runs[:, ::-1], every.transitions
        last = steps.next_state[runs[:, -1:]]
        taken = steps.take(backwards.ravel())
        log_prob = self.model.log_prob(taken.state, taken.action, taken.next_state)
        return Traces(
            np.concatenate([last, steps.state[backwards]], axis=1),
            steps.action[backwards],
            log_prob.reshape(backwards.shape),
            np.ones(backwards.shape, bool),
        )
