"""How well recalled traces explain success: bounds on log p(R > L).

p(τ) = p0(s_0) Π π(a_t | s_t) p(s_t+1 | s_t, a_t), T steps of the policy begun in p0, which is
where it usually is. R > L is the event that the state after T steps, s_T, is worth no less than
the least of those that traces may end in.
q(τ) = q(s_T) Π q(s_t, a_t | s_t+1), traces of T steps, with q(s_T) within the event. A trace that
stops sooner is none of them, so q is divided by Z, the share of traces that do not.

    lower = E_q[log p(τ) − log q(τ)]               the gap to log p(R > L) is KL(q || p(. | R > L))
    upper = E_p(. | R > L)[log p(τ) − log q(τ)]    the gap is KL(p(. | R > L) || q)

Training the model on trajectories that did well lowers the second gap, as wake-sleep does.
Source: Goyal et al., Recall Traces (arXiv 1804.00379), on the variational interpretation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delegate.recall.exact import ExactBacktrackingModel
from delegate.recall.model import FiniteBacktrackingModel
from delegate.recall.paths import Paths, among_actions, expectation
from delegate.recall.table import TransitionTable
from delegate.recall.traces import Traces

StateDensity = Callable[[np.ndarray], np.ndarray]
"""log density of states: [N, ...] -> float64 [N]"""
PolicyDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""log π(action | state): [N, ...], [N, ...] -> float64 [N]"""
ForwardDensity = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""log p(next_state | state, action): [N, ...] each -> float64 [N]"""

_COMPUTABLE = 4_000_000
"""numbers of q(s, a | s') up to which bounds are computed: a second and 200 MB"""
_ROUNDING = 1e-6
"""how far from one probabilities may sum; single precision does no better"""


@dataclass(frozen=True)
class Bounds:
    """What log p(R > L) lies between (nats); lower <= log_evidence <= upper where all are exact.

    lower: −inf where q recalls what p cannot do
    upper: +inf where q cannot recall what p does; −inf with an event that p never reaches
    """

    lower: float
    log_evidence: float
    upper: float


def computable(model: object) -> bool:
    """Whether `exact_bounds` follow from it and from the world that its table is."""
    if not isinstance(model, ExactBacktrackingModel) or model.num_levels > 1:
        return False
    return model.num_states**2 * model.num_actions <= _COMPUTABLE


def exact_bounds(
    model: FiniteBacktrackingModel | np.ndarray,
    table: TransitionTable,
    policy: np.ndarray,
    start: np.ndarray,
    ends: np.ndarray,
    length: int,
    *,
    event: np.ndarray | None = None,
    level: int | None = None,
) -> Bounds:
    """The bounds in a finite world, without sampling. Memory is that of S x A x S numbers.

    model: q(s, a | s'), or its probabilities as float [S', S, A]
    policy: float [S, A], π(a | s) · start: float [S], p0 · ends: float [S], q(s_T)
    length: T, steps, 0 or more
    event: bool [S], R > L; where ends are above 0 if left out
    level: of the table and the model; may be left out if there is only one
    Raises ValueError for other shapes, probabilities that do not sum to one, ends outside the
    event, a negative length or a missing level; IndexError for a level that is not there.
    """
    level = _level(table, level)
    states, actions = table.num_states, table.num_actions
    if length < 0:
        raise ValueError(f"length is {length} steps; give 0 or more")
    there = (table.valid & ~table.terminal)[level]
    policy = _distributions("policy", policy, (states, actions), there)
    start = _distributions("start", start, (states,))
    ends = _distributions("ends", ends, (states,))
    event = ends > 0 if event is None else _checked_event(event, ends)
    log_q = _log(_conditional(model, table, level))
    log_step = _log(policy)[:, :, None] + _log(_outcomes(table, level))

    by_policy = Paths.between(
        _log(start), np.logaddexp.reduce(log_step, axis=1), _log(event), length
    )
    kernel = np.logaddexp.reduce(log_q, axis=1)
    by_model = Paths.between(_log(ends), kernel.T, np.zeros(states), length)
    if by_policy.log_mass == -np.inf:
        return Bounds(-np.inf, -np.inf, -np.inf)
    if by_model.log_mass == -np.inf:
        return Bounds(-np.inf, by_policy.log_mass, np.inf)

    def mean(first: np.ndarray, last: np.ndarray, steps: np.ndarray) -> float:
        """Of log p(τ) − log q(τ), given how often paths begin, end and go where."""
        with np.errstate(invalid="ignore"):  # impossible for both, and then never met
            ratio = log_step - log_q
        return (
            by_model.log_mass
            + expectation(first, _log(start))
            + expectation(steps, ratio)
            - expectation(last, _log(ends))
        )

    of_model = among_actions(by_model.steps.T, log_q)
    of_policy = among_actions(by_policy.steps, log_step)
    return Bounds(
        mean(by_model.last, by_model.first, of_model),
        by_policy.log_mass,
        mean(by_policy.first, by_policy.last, of_policy),
    )


def estimated_bounds(
    recalled: Traces,
    remembered: Traces | None,
    *,
    log_policy: PolicyDensity,
    log_forward: ForwardDensity,
    log_start: StateDensity,
    log_ends: StateDensity,
    log_evidence: float = float("nan"),
) -> Bounds:
    """An estimate of the bounds: means over traces, with densities that may be learned.

    It errs by Monte Carlo and by every density that is not the true one, so `lower` may come
    out above `upper`.
    recalled: N traces of the model; those that stop before T steps only lower Z
    remembered: M runs of T steps of the policy that end in the event, in reversed time as traces
        are, whose log_prob the model gave; None or none of them for no upper bound (NaN)
    log_evidence: log p(R > L) if it is known (nats)
    Raises ValueError where there are no recalled traces, or a density has another shape.
    """
    if not len(recalled):
        raise ValueError("recalled holds no traces; give one at least")
    whole = np.asarray(recalled.valid.all(axis=1))

    def mean(traces: Traces, chosen: np.ndarray) -> float:
        states, actions = traces.states[chosen], traces.actions[chosen]
        steps, length = len(states), actions.shape[1]
        before, after = (
            part.reshape(steps * length, *states.shape[2:])
            for part in (states[:, 1:], states[:, :-1])
        )
        taken = actions.reshape(steps * length, *actions.shape[2:])
        step = _rows("log_policy", log_policy(before, taken), len(before))
        step = step + _rows("log_forward", log_forward(before, taken, after), len(before))
        first = _rows("log_start", log_start(states[:, -1]), steps)
        last = _rows("log_ends", log_ends(states[:, 0]), steps)
        by_policy = first + step.reshape(steps, length).sum(axis=1)
        by_model = last + traces.log_prob[chosen].sum(axis=1)
        with np.errstate(invalid="ignore"):  # impossible for both: what p cannot do counts
            ratio = np.where(by_policy == -np.inf, -np.inf, by_policy - by_model)
            return float(ratio.mean())

    reached = float(_log(whole.mean()))
    lower = reached + mean(recalled, whole) if whole.any() else -np.inf
    upper = float("nan")
    if remembered is not None and len(remembered):
        if not remembered.valid.all():
            raise ValueError("remembered holds a run that is cut short; leave such runs out")
        upper = mean(remembered, np.ones(len(remembered), bool))
        upper = upper + reached if whole.any() else np.inf
    return Bounds(lower, log_evidence, upper)


def _outcomes(table: TransitionTable, level: int) -> np.ndarray:
    """P(s' | s, a), float64 [S, A, S']; outcomes that lead to the same state add up."""
    P = np.zeros((table.num_states, table.num_actions, table.num_states))
    state, action, _ = np.indices(table.next_state.shape[1:])
    np.add.at(P, (state, action, table.next_state[level]), table.probability[level])
    return P


def _conditional(
    model: FiniteBacktrackingModel | np.ndarray, table: TransitionTable, level: int
) -> np.ndarray:
    """q(s, a | s') as float64 [S, A, S']."""
    states, actions = table.num_states, table.num_actions
    if isinstance(model, FiniteBacktrackingModel):
        sizes = (model.num_levels, model.num_states, model.num_actions)
        wanted = (table.num_levels, states, actions)
        if sizes != wanted:
            raise ValueError(
                f"model has {sizes} levels, states and actions, and the table {wanted}; give the "
                "model of this world"
            )
        q = np.empty((states, states, actions))
        state, action = (part.ravel() for part in np.indices((states, actions)))
        for after in range(states):
            led = np.full(len(state), after)
            log_prob = model.log_prob(state, action, led, np.full(len(state), level))
            q[after] = np.exp(log_prob).reshape(states, actions)
    else:
        q = np.asarray(model, np.float64)
        _check_numbers("model", q, (states, states, actions))
        total = q.sum(axis=(1, 2))
        _check_sums("model", total, (total > 0))
    return np.moveaxis(q, 0, 2)


def _level(table: TransitionTable, level: int | None) -> int:
    if level is None:
        if table.num_levels > 1:
            raise ValueError(
                f"level is missing and the table has {table.num_levels} levels; say which"
            )
        return 0
    if not 0 <= level < table.num_levels:
        raise IndexError(f"level {level} is not there; give 0 to {table.num_levels - 1}")
    return level


def _distributions(
    name: str, given: np.ndarray, shape: tuple[int, ...], rows: np.ndarray | bool = True
) -> np.ndarray:
    """Probabilities over the last axis, of `rows` at least."""
    values = np.asarray(given, np.float64)
    _check_numbers(name, values, shape)
    _check_sums(name, np.atleast_1d(values.sum(axis=-1)), np.atleast_1d(rows))
    return values


def _check_numbers(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} has shape {values.shape}; give {shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name} holds a negative or non-finite probability; give 0 to 1")


def _check_sums(name: str, total: np.ndarray, rows: np.ndarray) -> None:
    wrong = rows & ~np.isclose(total, 1.0, rtol=0, atol=_ROUNDING)
    if wrong.any():
        row = int(wrong.argmax())
        where = f"{name}, state {row}:" if len(total) > 1 else f"{name}:"
        raise ValueError(
            f"{where} probabilities sum to {float(total[row]):.9g}; make them sum to one"
        )


def _checked_event(event: np.ndarray, ends: np.ndarray) -> np.ndarray:
    event = np.asarray(event)
    if event.shape != ends.shape or event.dtype != bool:
        raise ValueError(f"event is {event.dtype} {event.shape}; give bool {ends.shape}")
    if (outside := (ends > 0) & ~event).any():
        raise ValueError(
            f"ends: state {int(outside.argmax())} is not in the event; traces end within it"
        )
    return event


def _rows(name: str, values: np.ndarray, count: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != (count,):
        raise ValueError(f"{name} gave shape {values.shape}; make it give one number a row")
    return values


def _log(probability: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probability))
