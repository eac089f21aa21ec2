"""The protocol of disparity sources, and validation of their maps."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import Frame
from cpcdr.runtime.errors import FrameError

Disparity = NDArray[np.float32]
"""[H, W] in (0, 1], 0 = invalid; depth is 1 / max(disparity, 0.005)."""


class DepthError(FrameError):
    """A frame whose depth cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "depth")


class DepthSource(Protocol):
    """A picklable callable that Ray sends to actors; ``name`` is what the user specified."""

    name: str

    def __call__(self, frames: list[Frame]) -> list[Disparity]:
        """One disparity map per frame, of the size of its image.

        Raises:
            FrameError: for the first frame without a usable map, with ``stage`` ``depth``; callers
                that skip such frames retry the others one by one.
        """


def check_disparity(disparity: NDArray, what: str) -> Disparity:
    """Validate a disparity map and return it as float32.

    Raises:
        FrameError: not finite, outside [0, 1], without a valid pixel, or constant.
    """
    disparity = np.ascontiguousarray(disparity, np.float32)
    if not np.isfinite(disparity).all():
        raise DepthError(f"{what}: disparity has values that are not finite: recompute it.")
    low, high = float(disparity.min()), float(disparity.max())
    if low < 0 or high > 1:
        raise DepthError(f"{what}: disparity is in {low:.3g}..{high:.3g}, not in 0..1: rescale it.")
    valid = disparity[disparity > 0]
    if valid.size == 0:
        raise DepthError(f"{what}: disparity is 0 (invalid) everywhere: recompute it.")
    if float(valid.std()) < 1e-3 * float(valid.mean()):
        raise DepthError(
            f"{what}: disparity is the constant {valid.mean():.4g}, the network behind it has "
            "collapsed or the scene is blank: recompute it or exclude the frame."
        )
    return disparity
