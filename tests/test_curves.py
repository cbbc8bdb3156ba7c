"""Intervals over seeds: how often they leave out what is true."""

from __future__ import annotations

import numpy as np
import pytest
from curves import interval

SAMPLES = 2_000


@pytest.mark.parametrize(("seeds", "missed"), [(3, 0.24), (5, 0.10), (10, 0.07)])
def test_intervals_of_few_seeds_are_too_narrow(seeds: int, missed: float) -> None:
    """Of noise around zero, zero should be left out in 5% of the cases."""
    noise = np.random.default_rng(0).normal(size=(SAMPLES, seeds))
    told = [interval(values) for values in noise]
    out = np.mean([not each["low"] <= 0 <= each["high"] for each in told])
    deviation = (missed * (1 - missed) / SAMPLES) ** 0.5
    assert out == pytest.approx(missed, abs=3 * deviation)
    assert out > 0.05
