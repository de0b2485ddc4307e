"""Whether a mean difference could be chance: sign flips of whole units, and Holm's correction for several figures.

If two models were alike, which of them is called A would not matter, so each unit's difference could as well have had
the other sign. The p-value is the share of all sign patterns whose total is at least as far from 0 as the one seen.

Shapes: U units, F figures, B sign patterns of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dermask.errors import SettingError

NUM_FLIPS = 10_000
"""A p-value of 0.05 is then known to 0.002 (one standard deviation), and none is below 0.0001."""
EXACT_UNITS = 12
"""Up to so many units that differ, all 4,096 sign patterns are counted instead of random ones."""
_CHUNK_SIGNS = 1 << 20  # signs held at once: 8 MB
_ROUNDING = 1e-12  # of the largest total: patterns nearer than this are equal but for the order of summation


def sign_flip_p_values(
    unit_sums: NDArray[np.float64], *, num_flips: int = NUM_FLIPS, seed: int = 0
) -> NDArray[np.float64]:
    """Two-sided p-values of the sign-flip permutation test.

    Units without a difference change no total; without them, up to `EXACT_UNITS` units are counted exactly. Otherwise
    the pattern seen counts as one of the random ones (the + 1 rule), so that no p-value is 0.

    Args:
        unit_sums: (U, F) float64, each unit's differences summed.
        num_flips: Random sign patterns, at least 1.
        seed: Of the random numbers.

    Returns:
        (F,) float64 in (0, 1].

    Raises:
        SettingError: `num_flips` is below 1.
    """
    if num_flips < 1:
        raise SettingError(f"num_flips {num_flips}", "must be at least 1")
    p_values = np.ones(unit_sums.shape[1])
    num_different = np.count_nonzero(unit_sums, axis=0)
    for column in np.flatnonzero(num_different <= EXACT_UNITS):
        sums = unit_sums[:, column]
        p_values[column] = _exact(sums[sums != 0])
    rest = np.flatnonzero(num_different > EXACT_UNITS)
    if len(rest):
        p_values[rest] = _random(unit_sums[:, rest], num_flips, seed)
    return p_values


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number, so that the chance of any false claim stays at the level asked.

    Holm (1979): of m p-values the k-th smallest, counted from 0, times m - k, made to rise and cut at 1.

    Args:
        p_values: In [0, 1]; None for a figure of which nothing is claimed, which does not count.

    Returns:
        One for each, in the same order.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = highest
    return adjusted


def _exact(sums: NDArray[np.float64]) -> float:
    patterns = np.arange(1 << len(sums))[:, None] >> np.arange(len(sums)) & 1
    return float(_at_least_as_far(patterns.astype(np.float64), sums[:, None]).mean())


def _random(unit_sums: NDArray[np.float64], num_flips: int, seed: int) -> NDArray[np.float64]:
    num_units = len(unit_sums)
    generator = np.random.default_rng(seed)
    num_bytes = -(-num_units // 8)
    at_once = max(1, _CHUNK_SIGNS // num_units)
    as_far = np.ones(unit_sums.shape[1])  # the pattern seen
    for start in range(0, num_flips, at_once):
        rows = min(at_once, num_flips - start)
        bits = np.frombuffer(generator.bytes(rows * num_bytes), np.uint8).reshape(rows, num_bytes)
        patterns = np.unpackbits(bits, axis=1, count=num_units).astype(np.float64)
        as_far += _at_least_as_far(patterns, unit_sums).sum(axis=0)
    return as_far / (num_flips + 1)


def _at_least_as_far(patterns: NDArray[np.float64], unit_sums: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(B, F) bool of (B, U) patterns of 0 and 1, which stand for the signs - and +."""
    seen, rounding = np.abs(unit_sums.sum(axis=0)), _ROUNDING * np.abs(unit_sums).sum(axis=0)
    as_far: NDArray[np.bool_] = np.abs(2 * (patterns @ unit_sums) - unit_sums.sum(axis=0)) >= seen - rounding
    return as_far
