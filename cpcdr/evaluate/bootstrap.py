"""Sampling uncertainty of a score: the percentile bootstrap over frames."""

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.matching import Match, class_ious
from cpcdr.runtime.errors import InputError


def miou_interval(
    confusions: NDArray[np.int64],
    match: Match,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Interval of the mIoU when frames with confusions int64 [F, P, K] are resampled.

    The match of the whole set is kept. Consecutive frames of one drive are correlated, so for them
    the interval is too narrow.

    Returns:
        ``low`` and ``high`` in 0..1, at confidence ``level``.

    Raises:
        InputError: no pixel is labelled.

    Source:
        B. Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    folded = match.fold(confusions)[:, : match.num_classes]  # [F, K, K]
    labelled = confusions.sum(1)
    if not labelled.any():
        raise InputError("No pixel has a label: evaluate on frames that come with label maps.")
    frames = len(confusions)
    draws = np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), samples)
    hits = draws @ folded.diagonal(axis1=1, axis2=2)
    ious = class_ious(hits, draws @ folded.sum(2), draws @ labelled)  # [samples, K]
    mious = np.nanmean(ious[~np.isnan(ious).all(1)], axis=1)
    low, high = np.quantile(mious, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high), "level": level}
