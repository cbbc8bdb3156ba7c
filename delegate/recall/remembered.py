"""The control of recall: what truly came before, instead of what a model says could have.

All else is alike; their steps are also credited as recalled ones are, rewards by a linear model.
"""

from __future__ import annotations

import numpy as np

from delegate.recall.targets import Ends
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps


def remembered_traces(steps: Steps, ends: Ends, length: int) -> Traces:
    """Of each end the up to `length` remembered steps that led to it; log_prob is 0.

    ends: all entered by one of the steps
    """
    number = steps.trajectory
    place = ends.place[:, None] - np.arange(length)
    valid, place = place >= 0, np.maximum(place, 0)
    valid &= number[place] == number[ends.place][:, None]
    seen = steps.transitions

    def column(values: np.ndarray) -> np.ndarray:
        missing = -1 if values.dtype.kind == "i" else 0
        shown = valid.reshape(*valid.shape, *(1,) * (values.ndim - 1))
        kind = np.int32 if values.dtype.kind == "i" else np.float32
        return np.where(shown, values[place], missing).astype(kind)

    states = column(seen.state)
    first = ends.states[:, None].astype(states.dtype)
    states = np.concatenate([first, states], axis=1)
    return Traces(states, column(seen.action), np.zeros(valid.shape), valid)
