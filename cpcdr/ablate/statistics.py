"""Means over seeds with intervals, and differences paired by seed."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Estimate = dict[str, Any]
"""``mean``, ``low`` and ``high`` end of its Student t interval, ``n``; None where undefined."""


def estimate(values: Iterable[float], level: float = 0.95) -> Estimate:
    """The mean of independent values and its t interval; ignores values that are not finite.

    Source:
        "Student", The probable error of a mean, Biometrika 1908.

    >>> {name: round(value, 3) for name, value in estimate([1.0, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484, 'n': 3}
    """
    from scipy.stats import t

    x = np.array([v for v in values if math.isfinite(v)])
    mean = float(x.mean()) if len(x) else None
    if mean is None or len(x) < 2:
        return {"mean": mean, "low": None, "high": None, "n": len(x)}
    half = float(t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(x)}


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """The mean difference first - second over common seeds, with its t interval."""
    return estimate(first[seed] - second[seed] for seed in sorted(first.keys() & second.keys()))
