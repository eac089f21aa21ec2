"""Means over seeds with intervals, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean with its Student t confidence interval.

    Attributes:
        mean: NaN without values.
        low, high: ends of the interval; NaN with fewer than two values.
    """

    mean: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, Any]:
        """With None instead of NaN, which JSON lacks."""
        return {k: v if math.isfinite(v) else None for k, v in vars(self).items()}


def estimate(values: Iterable[float], level: float = 0.95) -> Estimate:
    """The mean of independent values and its t interval; ignores values that are not finite.

    Source:
        "Student", The probable error of a mean, Biometrika 1908.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> round(found.low, 3), found.mean, round(found.high, 3)
    (-0.484, 2.0, 4.484)
    """
    from scipy.stats import t

    x = np.array([v for v in values if math.isfinite(v)])
    if not len(x):
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(x.mean())
    if len(x) < 2:
        return Estimate(mean, math.nan, math.nan, 1)
    half = float(t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Estimate(mean, mean - half, mean + half, len(x))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """The mean difference first - second over common seeds, with its t interval."""
    return estimate(first[seed] - second[seed] for seed in sorted(first.keys() & second.keys()))
