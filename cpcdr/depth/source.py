"""The protocol of disparity sources, and validation of their maps."""

import sys
from collections.abc import Sequence
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


def has_gpu() -> bool:
    """Whether what this process has loaded can use a GPU."""
    return "torch" in sys.modules and bool(sys.modules["torch"].cuda.is_available())


def frames_at_once() -> int:
    """How many frames are worth reading before their depth is estimated."""
    return 8 if has_gpu() else 1


def estimate(depth: DepthSource, frames: Sequence[Frame]) -> list[Disparity | FrameError]:
    """The map of each frame, or why it has none; on a GPU a network sees all frames at once.

    On a CPU it sees one at a time, which is no slower: the last bits of a map depend on what is in
    the batch beside it, and a dataset that was interrupted and resumed is bit-equal there.
    """
    together = len(frames) if has_gpu() else 1
    return [
        result
        for start in range(0, len(frames), max(together, 1))
        for result in _together(depth, list(frames[start : start + together]))
    ]


def _together(depth: DepthSource, frames: list[Frame]) -> list[Disparity | FrameError]:
    """Several frames at once; one by one if one of them is bad."""
    try:
        return list(depth(frames))
    except FrameError as error:
        if len(frames) == 1:
            return [error]
        return [result for frame in frames for result in _together(depth, [frame])]


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
