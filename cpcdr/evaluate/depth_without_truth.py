"""Evaluation of a depth source without true depth: plausibility of frames spread over a source."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.plausibility import ground, plausibility
from cpcdr.depth.source import DepthSource, Disparity
from cpcdr.evaluate.depth_consistency import temporal_error
from cpcdr.evaluate.depth_maps import frames_with_maps
from cpcdr.frames import Frame, FrameSource
from cpcdr.frames.pick import spread
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress
from cpcdr.visualize.pictures import colour_disparity, colour_mask, contact_sheet

_FRAMES, _SHOWN = 32, 5
_WIDTH = 640
"""Wider images are measured at this width, so that 2 pixels mean about the same for all cameras."""

Shot = tuple[NDArray[np.uint8], Disparity]
"""A frame's image [H, W, 3] and its disparity [H, W]."""


def measure_plausibility(
    source: FrameSource, depth: DepthSource, size: tuple[int, int]
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Measures of up to 32 frames, each also compared with the next frame of its sequence.

    Args:
        size: height and width of the frames; 0 0 keeps their own.

    Returns:
        the means over frames of `plausibility` and ``temporal_error``, None where no frame has a
        value, with ``plausibility_frames``, their number; and a picture of some frames, their
        disparity and the pixels on the ground plane.

    Raises:
        InputError: no frame has a usable map.
    """
    refs = source.refs()
    by_position = {(ref.sequence, ref.frame_index): ref for ref in refs}
    chosen = [refs[i] for i in spread(len(refs), _FRAMES)]
    following = [by_position.get((ref.sequence, ref.frame_index + 1)) for ref in chosen]
    wanted = [ref for pair in zip(chosen, following, strict=True) for ref in pair if ref]
    results = frames_with_maps(source, [depth], wanted, size)
    rows: list[dict[str, float]] = []
    shots: list[Shot] = []
    reason = ""
    with Progress(following, desc="plausibility", unit="frame") as bar:
        for next_ref in bar:
            shot = _shot(next(results))
            after = _shot(next(results)) if next_ref else None
            if isinstance(shot, FrameError):
                reason = reason or str(shot)
                continue
            rows.append(plausibility(*shot) | {"temporal_error": _error_after(shot, after)})
            shots.append(shot)
    if not rows:
        raise InputError(
            f"{source.spec}: no frame has depth by {depth.name}; first error: {reason}"
        )
    means = {name: _mean([row[name] for row in rows]) for name in rows[0]}
    pictures = [_pictures(*shots[i]) for i in spread(len(shots), _SHOWN)]
    sheet = contact_sheet(pictures, ["frame", "disparity", "pixels on the ground plane"])
    return means | {"plausibility_frames": len(rows)}, sheet


def _shot(result: tuple[Frame, list[Disparity]] | FrameError) -> Shot | FrameError:
    if isinstance(result, FrameError):
        return result
    frame, (disparity,) = result
    return _shrunk(frame.image, disparity)


def _shrunk(image: NDArray[np.uint8], disparity: Disparity) -> Shot:
    """An image [H, W, 3] and its map [H, W] at a width of at most `_WIDTH`."""
    height, width = disparity.shape
    if width <= _WIDTH:
        return image, disparity
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    # Nearest: invalid pixels must not bleed into valid ones.
    nearest = cv2.resize(disparity, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return small, nearest.astype(np.float32)


def _error_after(shot: Shot, after: Shot | FrameError | None) -> float:
    """`temporal_error` to the next frame; NaN where there is none of this size."""
    if after is None or isinstance(after, FrameError) or after[1].shape != shot[1].shape:
        return np.nan
    return temporal_error(*shot, *after)


def _mean(values: list[float]) -> float | None:
    measured = [value for value in values if np.isfinite(value)]
    return float(np.mean(measured)) if measured else None


def _pictures(image: NDArray[np.uint8], disparity: Disparity) -> list[NDArray[np.uint8]]:
    road = ground(disparity)
    on_plane = road.mask(disparity) if road else np.zeros(disparity.shape, bool)
    return [image, colour_disparity(disparity), colour_mask(on_plane, image)]
