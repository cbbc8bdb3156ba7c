"""Random numbers from a key: the whole random state of a row is two integers.

A key is (seed, counter). Draw number n is a fixed hash of both, so nothing else has to be
saved to repeat a stream, and no row's draws depend on another row's.
The hash is the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""odd and close to 2^64 / golden ratio: successive counters land far apart"""
_SECOND = np.uint64(0xBF58476D1CE4E5B9)
_THIRD = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


def mix(bits: np.ndarray) -> np.ndarray:
    """A bijective hash of 64-bit integers. bits: uint64 [...] · returns uint64 [...]"""
    bits = (bits ^ (bits >> np.uint64(30))) * _SECOND
    bits = (bits ^ (bits >> np.uint64(27))) * _THIRD
    return bits ^ (bits >> np.uint64(31))


def row_keys(seed: int, rows: np.ndarray) -> np.ndarray:
    """Fresh keys of those rows, each from (seed, row) alone.

    seed: any Python integer, taken modulo 2^64 · rows: int [n] · returns uint64 [n, 2]
    """
    root = mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) + GOLDEN)
    keys = np.zeros((len(rows), 2), dtype=np.uint64)
    keys[:, 0] = mix(root + (rows.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    return keys


def draw(seed: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Draw number `counter` of each stream. Both uint64 [...] · returns uint64 [...]"""
    return mix(seed + (counter + np.uint64(1)) * GOLDEN)


def unit(bits: np.ndarray) -> np.ndarray:
    """Uniform in [0, 1) from the upper 53 bits. bits: uint64 [...] · returns float64 [...]"""
    return (bits >> np.uint64(11)) * _UNIT


def below(bits: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """Uniform in 0..bound-1 from the upper 32 bits; bound < 2^31, bias below bound / 2^32.

    bits: uint64 [...] · returns int64 [...]
    """
    scaled = (bits >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)
    return (scaled >> np.uint64(32)).astype(np.int64)


def level_draws(seeds: np.ndarray, attempt: int, count: int) -> np.ndarray:
    """The numbers that level generation spends, from each level's seed alone.

    seeds: int64 [L] · attempt: which try at that level · returns float64 [L, count] in [0, 1)
    """
    root = mix(seeds.astype(np.uint64) * np.uint64(2) + np.uint64(1))
    counter = np.arange(count, dtype=np.uint64) + np.uint64(attempt << 24)
    return unit(draw(root[:, None], counter[None, :]))
