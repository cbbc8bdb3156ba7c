"""The learned backtracking model beside the matrix products it cannot do without; one thread."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from delegate.bench.grid import one_core
from delegate.bench.timing import Figure, Run, ratios, speeds, timed
from delegate.recall import LearnedBacktrackingModel, Transitions

STATE, ACTION, BATCH = 17, 6, 256
"""sizes of HalfCheetah, and of a batch (rows)"""
LENGTH = 20
"""of a trace (steps)"""
TRACES = 1024
"""recalled at once (count)"""
PRODUCTS, UPDATE, FIT = "matrix products", "update", "step of fit"


def recall_figures(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds of one update at the paper's sizes, products first; traces a second."""
    rng = np.random.default_rng(0)
    state = rng.normal(size=(20_000, STATE))
    action = rng.uniform(-1, 1, (20_000, ACTION))
    seen = Transitions(state, action, state + 0.1 * rng.normal(size=state.shape))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core():
            return _figures(seen, rounds, seconds)
    finally:
        torch.set_num_threads(threads)


def _figures(seen: Transitions, rounds: int, seconds: float) -> dict[str, Any]:
    space = Box(-np.inf, np.inf, (STATE,))
    model = LearnedBacktrackingModel(space, Box(-1, 1, (ACTION,)), support=None)
    model.observe(seen.state, seen.action, seen.next_state)
    batch = seen.take(np.arange(BATCH))

    def updates(calls: int) -> tuple[int, float]:
        return calls, timed(lambda: [model.update(batch) for _ in range(calls)])

    def fit(calls: int) -> tuple[int, float]:
        return calls, timed(lambda: model.fit(seen, calls, BATCH, rng=0))

    def traces(calls: int) -> tuple[int, float]:
        def recall() -> None:
            for _ in range(calls):
                model.sample_traces(seen.state[:TRACES], LENGTH, 1, rng=0)

        return calls * TRACES, timed(recall)

    runs = {PRODUCTS: _products(model.config.hidden), UPDATE: updates, FIT: fit}
    measured = speeds(runs, rounds, seconds)
    return {
        "sizes": {"state": STATE, "action": ACTION, "batch": BATCH, "trace": LENGTH},
        "microseconds": {
            name: Figure.of([1e6 / speed for speed in found]) for name, found in measured.items()
        },
        "times_the_products": {
            name: ratios(measured[PRODUCTS], measured[name]) for name in (UPDATE, FIT)
        },
        "traces_per_second": Figure.of(speeds({"": traces}, rounds, seconds)[""]),
    }


def _products(hidden: tuple[int, ...]) -> Run:
    """The products of both networks, forwards and backwards, and nothing between them."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) / rows**0.5

    networks = []
    for widths in ((STATE, *hidden, ACTION), (STATE + ACTION, *hidden, STATE)):
        weights = [normal(*pair) for pair in pairwise(widths)]
        networks.append((normal(BATCH, widths[0]), weights))

    def products(calls: int) -> None:
        for _ in range(calls):
            for inputs, weights in networks:
                _back_and_forth(inputs, weights)

    def run(calls: int) -> tuple[int, float]:
        return calls, timed(lambda: products(calls))

    return run


def _back_and_forth(inputs: torch.Tensor, weights: list[torch.Tensor]) -> None:
    layers = [inputs]
    for weight in weights:
        layers.append(layers[-1] @ weight)
    gradient = layers.pop()
    for depth in reversed(range(len(weights))):
        layers[depth].T @ gradient
        if depth:
            gradient = gradient @ weights[depth].T
