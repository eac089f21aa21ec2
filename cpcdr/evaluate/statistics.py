"""Uncertainty of scores: intervals over seeds, paired differences, resampled drives."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cpcdr.evaluate.matching import Match, class_ious
from cpcdr.runtime.errors import InputError

Estimate = dict[str, Any]
"""``mean``, ``low`` and ``high`` end of its Student t interval, ``n``; None where undefined."""

LEVEL = 0.95


def estimate(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """The mean of independent values and its t interval; ignores values that are not finite.

    Source:
        "Student", The probable error of a mean, Biometrika 1908.

    >>> {name: round(value, 3) for name, value in estimate([1.0, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484, 'n': 3}
    """
    x = np.array([v for v in values if math.isfinite(v)])
    mean = float(x.mean()) if len(x) else None
    if mean is None or len(x) < 2:
        return {"mean": mean, "low": None, "high": None, "n": len(x)}
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(x)}


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """The mean difference first - second over common seeds, with its t interval and ``p``.

    ``p`` is of the two-sided t test that the difference is zero, None for fewer than two seeds.
    """
    pairs = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    found = estimate(pairs)
    if found["low"] is None:
        return found | {"p": None}
    if found["low"] == found["high"]:  # no spread: the test is undefined
        return found | {"p": 1.0 if found["mean"] == 0 else 0.0}
    finite = [pair for pair in pairs if math.isfinite(pair)]
    return found | {"p": float(stats.ttest_1samp(finite, 0).pvalue)}


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number.

    Source:
        S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected


def interval_text(interval: Mapping[str, Any], factor: float, sign: str = "") -> str:
    """``31.2 [29.0, 33.4]``; the mean alone if there is no interval.

    >>> interval_text({"mean": 0.312, "low": None, "high": None}, 100, "+")
    '+31.2'
    """
    digits = 1 if factor > 1 else 3
    if interval["mean"] is None:
        return "–"
    text = f"{factor * interval['mean']:{sign}.{digits}f}"
    if interval["low"] is None:
        return text
    low, high = (f"{factor * interval[end]:{sign}.{digits}f}" for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def verdict(difference: Estimate, p: float | None, comparisons: int, factor: float = 100) -> str:
    """What a paired difference shows, in words that claim no more than its test.

    Args:
        difference: as `paired` returns it.
        p: its p value after correction for ``comparisons``; None if it has none.
        factor: of displayed values.

    >>> verdict({"mean": 0.02, "low": 0.01, "high": 0.03, "n": 3}, 0.04, 2)
    '+2.0 [+1.0, +3.0], n = 3: excludes zero after correction for 2 comparisons (p = 0.040)'
    """
    if difference["mean"] is None:
        return "no pair of trials to compare"
    about = f"{interval_text(difference, factor, '+')}, n = {difference['n']}"
    if p is None or difference["low"] is None:
        return f"{about}: too few seeds for an interval"
    plain = difference["low"] > 0 or difference["high"] < 0
    after = f"after correction for {comparisons} comparisons (p = {p:.3f})"
    if p < 1 - LEVEL:
        return f"{about}: excludes zero {after}"
    return f"{about}: {'excludes zero alone, not' if plain else 'does not exclude zero,'} {after}"


def miou_interval(
    confusions: NDArray[np.int64],
    match: Match,
    samples: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, float]:
    """Interval of the mIoU when groups of frames, confusions int64 [G, P, K], are resampled.

    The match of the whole set is kept.

    Returns:
        ``low`` and ``high`` in 0..1, at confidence ``level``.

    Raises:
        InputError: no pixel is labelled.

    Source:
        B. Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    folded = match.fold(confusions)[:, : match.num_classes]  # [G, K, K]
    labelled = confusions.sum(1)
    if not labelled.any():
        raise InputError("No pixel has a label: evaluate on frames that come with label maps.")
    groups = len(confusions)
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), samples)
    hits = draws @ folded.diagonal(axis1=1, axis2=2)
    ious = class_ious(hits, draws @ folded.sum(2), draws @ labelled)  # [samples, K]
    mious = np.nanmean(ious[~np.isnan(ious).all(1)], axis=1)
    low, high = np.quantile(mious, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high), "level": level}
