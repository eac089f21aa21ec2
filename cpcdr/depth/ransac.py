"""Linear fits to most of the values, whatever the others are (RANSAC; Fischler & Bolles 1981)."""

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.15
"""Relative residual up to which a value fits."""
_TRIALS, _MOST = 200, 4000


def fit_most(
    design: NDArray[np.float64], values: NDArray[np.float64], seed: int = 0
) -> NDArray[np.float64]:
    """Parameters [k] for which ``design`` @ parameters fits as many values as possible.

    Args:
        design: [N, k].
        values: [N], positive; residuals are relative to them. More than 4000 are sampled.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(values), min(len(values), _MOST), replace=False)
    design, values = design[chosen], values[chosen]
    samples = rng.integers(len(values), size=(_TRIALS, design.shape[1]))
    inverses = np.linalg.pinv(design[samples])  # a sample may repeat a value
    candidates = np.einsum("tij,tj->ti", inverses, values[samples])
    fitting = fits(candidates @ design.T, values)
    best = fitting[fitting.sum(axis=1).argmax()]
    relative = design[best] / values[best, None]
    return np.linalg.lstsq(relative, np.ones(len(relative)), rcond=None)[0]


def fits(expected: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which positive values are within the tolerance of the expected ones."""
    return (values > 0) & (np.abs(expected - values) <= TOLERANCE * values)
