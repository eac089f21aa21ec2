"""Checks for depth that would silently ruin every later stage.

Self-supervised depth fails in three ways that look like success: the network predicts the same map
for every image, it predicts infinite depth where cars move with the camera, or it never explains
the motion.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.plausibility import plausibility
from cpcdr.depth.source import DepthSource, Disparity
from cpcdr.frames.frame import Frame
from cpcdr.runtime.errors import FrameError

FAR = 0.0055
"""Disparity up to which a pixel is practically at the far limit (0.005: 200 units away)."""
MAX_HOLES = 0.10
"""Largest fraction of far pixels in the lower image, where a car's camera sees road and cars."""
_TWO_VALUES, _GROUND_RISES, _BRIGHTNESS = 0.9, 0.5, 0.85
"""Limits of the means of `plausibility` over frames, beyond which depth has collapsed."""
MIN_DIFFERENCE = 0.02
"""Least mean relative difference of a frame's map from the mean map of all frames."""


@dataclass(frozen=True)
class DepthHealth:
    """Health of a disparity source, measured on some frames.

    Attributes:
        holes: fraction of valid pixels at the far limit, in the lower half of the images.
        difference: mean relative difference of a frame's map from the mean map of all frames, 0
            where the source ignores its images; NaN for fewer than three frames of one size.
    """

    frames: int
    holes: float
    difference: float
    failed: int = 0
    reason: str = ""

    def warnings(self) -> list[str]:
        """One sentence per problem; empty where there is none."""
        warnings = []
        if self.failed * 2 > self.frames:
            warnings.append(
                f"{self.failed} of {self.frames} frames have no usable disparity, first error: "
                f"{self.reason.rstrip('.')}"
            )
        if self.holes > MAX_HOLES:
            warnings.append(
                f"{100 * self.holes:.0f} % of the lower image is infinitely far: holes where "
                "cars move with the camera, or a network that has not learned the road"
            )
        if self.difference < MIN_DIFFERENCE:
            warnings.append(
                f"all frames have nearly the same disparity (they differ by "
                f"{100 * self.difference:.1f} %): the network ignores its images"
            )
        return warnings


def depth_health(maps: Sequence[Disparity], failed: int = 0, reason: str = "") -> DepthHealth:
    """Health of the disparity maps of different frames, float32 [H, W] each, 0 = invalid."""
    holes, valid = 0, 0
    for disparity in maps:
        lower = disparity[disparity.shape[0] // 2 :]
        valid += int((lower > 0).sum())
        holes += int(((lower > 0) & (lower <= FAR)).sum())
    comparable = [m for m in maps if m.shape == maps[0].shape]
    difference = float("nan")
    if len(comparable) >= 3:
        stacked = np.stack([_small(m) for m in comparable])
        difference = float(np.abs(stacked / stacked.mean(axis=0) - 1).mean())
    return DepthHealth(len(maps) + failed, holes / max(1, valid), difference, failed, reason)


def collapse(images: Sequence[NDArray[np.uint8]], maps: Sequence[Disparity]) -> str:
    """How the disparity of some frames has collapsed; ``""`` if it has not.

    Args:
        images: uint8 [H, W, 3] RGB, of frames that look ahead from a car.
        maps: their disparity [H, W].
    """
    if not all(np.isfinite(disparity).all() for disparity in maps):
        return "disparity is not finite"
    measures = [plausibility(*pair) for pair in zip(images, maps, strict=True)]

    def mean(name: str) -> float:
        values = [m[name] for m in measures if np.isfinite(m[name])]
        return float(np.mean(values)) if values else math.nan

    if mean("two_values") > _TWO_VALUES:
        return f"{mean('two_values'):.0%} of the pixels have one of two values"
    if mean("ground_rises") < _GROUND_RISES:
        return "the road does not come nearer towards the bottom of the image"
    if mean("brightness") > _BRIGHTNESS:
        return f"disparity follows brightness (correlation {mean('brightness'):.2f})"
    holes = depth_health(maps).holes
    return f"{holes:.0%} of the lower image is infinitely far" if holes > MAX_HOLES else ""


def _small(disparity: Disparity) -> NDArray[np.float64]:
    """A map of mean 1 at 1/8 size, without noise and the unknown scale."""
    height, width = (max(1, side // 8) for side in disparity.shape)
    small = cv2.resize(disparity, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.maximum(small, 1e-6) / max(float(small.mean()), 1e-6)


def measure_health(depth: DepthSource, frames: Sequence[Frame]) -> DepthHealth:
    """Health of a source on some frames, spread over the video."""
    maps, failed, reason = [], 0, ""
    for frame in frames:
        try:
            maps += depth([frame])
        except FrameError as error:
            failed, reason = failed + 1, reason or str(error)
    return depth_health(maps, failed, reason)


def training_warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Problems that show in the last metrics of a depth training, one sentence each.

    Args:
        metrics: ``photometric`` and ``identity`` errors, ``disparity_spread``; missing ones are
            not checked.
    """
    warnings = []
    photometric, identity = metrics.get("photometric"), metrics.get("identity")
    if photometric is not None and identity is not None and photometric >= identity:
        warnings.append(
            f"reprojection by the predicted motion is no better ({photometric:.4f}) than identity "
            f"reprojection ({identity:.4f}): train longer, or check the intrinsics and that the "
            "camera moves"
        )
    if metrics.get("disparity_spread", 1.0) < 0.02:
        warnings.append("disparity is nearly constant over the image: the network has collapsed")
    return warnings
