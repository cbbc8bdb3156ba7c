"""The backtracking model q(s, a | s'): what probably led to a state."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from delegate.recall.traces import Traces


class BacktrackingModel(ABC):
    """q(s, a | s'), exact or learned. Source: Recall Traces (arXiv 1804.00379), section 2."""

    @abstractmethod
    def log_prob(self, state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
        """log q(state, action | next_state), float64 [B]; -inf off the model's support.

        state, next_state: int [B] or float [B, d] · action: int [B] or float [B, d_a]
        """

    @abstractmethod
    def sample_traces(
        self,
        end_state: np.ndarray,
        length: int,
        count: int,
        *,
        rng: np.random.Generator | int | None = None,
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state.

        end_state: int [E] or float [E, d] · returns E * count traces, those of one end together
        """


class FiniteBacktrackingModel(BacktrackingModel):
    """q(s, a | s') over the states of a bank of levels, every one of which can be enumerated.

    Wherever a method takes `level`, None means the only level of the bank; with several
    levels it must be given, or ValueError is raised.
    """

    num_levels: int
    num_states: int
    num_actions: int

    @abstractmethod
    def log_prob(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        level: np.ndarray | None = None,
    ) -> np.ndarray:
        """log q(state, action | next_state), float64 [B]; -inf off the model's support.

        state, action, next_state, level: int [B]
        Raises IndexError for a state, action or level that is not there, TypeError for what are
        no integers.
        """

    @abstractmethod
    def sample_traces(
        self,
        end_state: np.ndarray,
        length: int,
        count: int,
        level: np.ndarray | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state.

        end_state, level: int [E] · returns E * count traces, those of one end together
        Raises IndexError for a state or level that is not there, TypeError for what are no
        integers, ValueError for a length or count below 0.
        """

    @abstractmethod
    def reachability(
        self, goal: np.ndarray, length: int, discount: float, level: np.ndarray | None = None
    ) -> np.ndarray:
        """How well each state leads to each goal: log B_g(s), float64 [G, S].

        B_g(s) = sum over k = 0 .. length of discount^k P(s is k steps back in a trace recalled
        from g). The goal itself is 0 steps back, so log B_g(g) >= 0; -inf where no trace of
        that length passes.
        goal, level: int [G] · length: steps, 0 or more · discount: in (0, 1]
        Raises IndexError for a goal or level that is not there, TypeError for what are no
        integers, ValueError for a length or discount out of its range.
        """

    @abstractmethod
    def steps_back(
        self, goal: np.ndarray, length: int, level: np.ndarray | None = None
    ) -> np.ndarray:
        """Fewest steps back at which a trace recalled from each goal can stand in each state.

        goal, level: int [G] · returns int32 [G, S], 0 at the goal, -1 where none of up to
        `length` steps does
        """
