"""Frames picked evenly from a source."""

from collections import Counter

import numpy as np

from cpcdr.frames.frame import Frame, FrameSource
from cpcdr.frames.resize import covering_size, fit
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import phase

_SIZED = 5
"""Frames that are read to know the usual size."""


def spread(count: int, most: int) -> list[int]:
    """Up to ``most`` of the indices 0..count-1, evenly spread, the first and the last included.

    >>> spread(10, 4), spread(2, 4), spread(0, 4)
    ([0, 3, 6, 9], [0, 1], [])
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


@phase("reading some frames")
def spread_frames(source: FrameSource, size: tuple[int, int], most: int) -> list[Frame]:
    """Up to ``most`` readable frames, evenly spread over the source, fitted to ``size``.

    Raises:
        InputError: none of them can be read.
    """
    refs, frames, first = source.refs(), [], ""
    for index in spread(len(refs), most):
        try:
            frame = source.read(refs[index])
        except FrameError as error:
            first = first or str(error)
            continue
        frames.append(fit(frame, size))
    if not frames:
        raise InputError(f"{source.spec}: no frame can be read; first error: {first}")
    return frames


@phase("reading some frames")
def usual_size(source: FrameSource) -> tuple[int, int]:
    """The height and width that most of some frames have, spread over the source.

    Raises:
        InputError: none of them can be read.
    """
    shapes = [frame.image.shape[:2] for frame in spread_frames(source, (0, 0), _SIZED)]
    height, width = Counter(shapes).most_common(1)[0][0]
    return height, width


def whole_size(source: FrameSource, trained: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a source's whole frames at the scale of a training.

    Args:
        trained: height and width of the frames that the network was trained on.

    Raises:
        InputError: no frame can be read.
    """
    return covering_size(usual_size(source), trained)


def common_frames(first: FrameSource, second: FrameSource) -> int:
    """Number of frames of ``second`` that are also in ``first``."""
    known = {ref.path or ref.frame_id for ref in first.refs()}
    return sum((ref.path or ref.frame_id) in known for ref in second.refs())
