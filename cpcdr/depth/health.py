"""Noticing depth that would silently ruin all that follows: pure functions, and a look at frames.

Self-supervised depth fails in three ways that look like success from outside: the network says the
same for every image, it digs holes of infinite depth where cars move with the camera, or it never
explained the motion at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.source import DepthSource, Disparity
from cpcdr.frames.frame import Frame
from cpcdr.runtime.errors import FrameError

FAR = 0.0055
"""Disparity that is practically the far clamp (0.005: 200 units away)."""
MOST_HOLES = 0.10
"""Share of far pixels in the lower image, where a camera on a car sees road and cars."""
LEAST_DIFFERENCE = 0.02
"""Mean relative difference between a frame's map and the mean map of all frames."""


@dataclass(frozen=True)
class DepthHealth:
    """What the disparity of some frames says about its source.

    Attributes:
        frames: frames that were looked at.
        holes: share of valid pixels at the far clamp in the lower half of the images.
        difference: mean relative difference of a frame's map from the mean map of all frames, 0
            where the source ignores its images; NaN for fewer than three frames of one size.
        failed: frames without usable disparity.
        reason: why the first of them has none.
    """

    frames: int
    holes: float
    difference: float
    failed: int = 0
    reason: str = ""

    def alarms(self) -> list[str]:
        """A sentence for each thing that is wrong; nothing where all looks well."""
        found = []
        if self.failed * 2 > self.frames:
            found.append(
                f"{self.failed} of {self.frames} frames have no usable disparity, the first: "
                f"{self.reason.rstrip('.')}"
            )
        if self.holes > MOST_HOLES:
            found.append(
                f"{100 * self.holes:.0f} % of the lower image lies infinitely far: holes where "
                "cars move with the camera, or a network that has not learned the road"
            )
        if self.difference < LEAST_DIFFERENCE:
            found.append(
                f"all frames have nearly the same disparity (they differ by "
                f"{100 * self.difference:.1f} %): the network ignores its images"
            )
        return found


def depth_health(maps: Sequence[Disparity], failed: int = 0, reason: str = "") -> DepthHealth:
    """Look at the disparity maps of different frames.

    Args:
        maps: float32 [H, W] each, 0 = invalid.
        failed: frames that have none.
        reason: why the first of those has none.
    """
    holes, valid = 0, 0
    for disparity in maps:
        lower = disparity[disparity.shape[0] // 2 :]
        valid += int((lower > 0).sum())
        holes += int(((lower > 0) & (lower <= FAR)).sum())
    same = [m for m in maps if m.shape == maps[0].shape]
    difference = float("nan")
    if len(same) >= 3:
        stacked = np.stack([_small(m) for m in same])
        difference = float(np.abs(stacked / stacked.mean(axis=0) - 1).mean())
    return DepthHealth(len(maps) + failed, holes / max(1, valid), difference, failed, reason)


def _small(disparity: Disparity) -> NDArray[np.float64]:
    """A map of mean 1 at 1/8 size: noise and the unknown scale are gone."""
    height, width = (max(1, side // 8) for side in disparity.shape)
    small = cv2.resize(disparity, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.maximum(small, 1e-6) / max(float(small.mean()), 1e-6)


def look_at(depth: DepthSource, frames: Sequence[Frame]) -> DepthHealth:
    """The health of a source on some frames, spread over the video."""
    maps, failed, reason = [], 0, ""
    for frame in frames:
        try:
            maps += depth([frame])
        except FrameError as error:
            failed, reason = failed + 1, reason or str(error)
    return depth_health(maps, failed, reason)


def training_alarms(metrics: Mapping[str, Any]) -> list[str]:
    """What the last metrics of a depth training say about its network.

    Args:
        metrics: ``photometric`` and ``identity`` errors, ``disparity_spread``; missing ones say
            nothing.
    """
    found = []
    photometric, identity = metrics.get("photometric"), metrics.get("identity")
    if photometric is not None and identity is not None and photometric >= identity:
        found.append(
            f"moving the camera explains the frames no better ({photometric:.4f}) than doing "
            f"nothing ({identity:.4f}): train longer, or check intrinsics and that the camera moves"
        )
    if metrics.get("disparity_spread", 1.0) < 0.02:
        found.append("disparity is nearly constant over the image: the network has collapsed")
    return found
