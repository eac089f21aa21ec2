"""Errors of predicted depth, as in Eigen et al. 2014 (arXiv 1406.2283): pure functions."""

import numpy as np
from numpy.typing import NDArray

from cpcdr.runtime.errors import InputError

Errors = dict[str, float]


def depth_errors(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    min_depth: float = 1e-3,
    max_depth: float = 80.0,
    median_scaling: bool = True,
) -> Errors:
    """Errors of one predicted depth map.

    Pixels with min_depth < truth < max_depth count; 0, infinite and NaN mean no truth. The
    prediction is scaled to the truth's median there, then clipped to the same range.

    Args:
        predicted: [H, W], positive.
        truth: [H, W].
        min_depth: smallest true depth that is evaluated, in the truth's unit.
        max_depth: largest true depth that is evaluated.
        median_scaling: off for predictions with a known scale.

    Returns:
        ``abs_rel``: mean |p - t| / t; ``sq_rel``: mean (p - t)² / t and ``rmse``: root mean square
        of p - t, in the unit of depth; ``rmse_log``: root mean square of ln p - ln t; ``d1``,
        ``d2``, ``d3``: fraction of pixels with max(p / t, t / p) below 1.25, 1.25², 1.25³;
        ``scale``: factor applied to the prediction.

    Raises:
        InputError: shapes differ, no pixel has truth, or predictions that are not positive.
    """
    if predicted.shape != truth.shape:
        raise InputError(f"Depth of shape {predicted.shape} cannot be compared with {truth.shape}.")
    valid = (truth > min_depth) & (truth < max_depth)
    if not valid.any():
        raise InputError(f"No true depth lies between {min_depth:g} and {max_depth:g}.")
    p, t = predicted[valid].astype(np.float64), truth[valid].astype(np.float64)
    if not (np.isfinite(p).all() and (p > 0).all()):
        raise InputError("Predicted depth must be positive and finite.")
    scale = float(np.median(t) / np.median(p)) if median_scaling else 1.0
    p = np.clip(p * scale, min_depth, max_depth)
    ratio = np.maximum(p / t, t / p)
    return {
        "abs_rel": float((np.abs(p - t) / t).mean()),
        "sq_rel": float(((p - t) ** 2 / t).mean()),
        "rmse": float(np.sqrt(((p - t) ** 2).mean())),
        "rmse_log": float(np.sqrt((np.log(p / t) ** 2).mean())),
        **{f"d{i}": float((ratio < 1.25**i).mean()) for i in (1, 2, 3)},
        "scale": scale,
    }


def eigen_crop(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Bool [H, W], the part of a KITTI image that published results evaluate (Garg et al. 2016)."""
    height, width = shape
    inside = np.zeros((height, width), bool)
    rows = slice(int(0.40810811 * height), int(0.99189189 * height))
    inside[rows, int(0.03594771 * width) : int(0.96405229 * width)] = True
    return inside


def mean_errors(errors: list[Errors]) -> Errors:
    """Mean of every error over frames, as published results are averaged.

    Raises:
        InputError: no frames.
    """
    if not errors:
        raise InputError("No frames to average depth errors over.")
    return {name: float(np.mean([frame[name] for frame in errors])) for name in errors[0]}
