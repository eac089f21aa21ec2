"""Frames picked evenly from a source."""

from __future__ import annotations

import numpy as np

from cpcdr.frames.frame import Frame, FrameSource
from cpcdr.frames.resize import fit
from cpcdr.runtime.errors import FrameError, InputError


def spread_frames(source: FrameSource, size: tuple[int, int], count: int) -> list[Frame]:
    """Up to ``count`` readable frames, evenly spread over the source.

    Raises:
        InputError: none can be read.
    """
    refs, frames, first = source.refs(), [], ""
    for index in np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).astype(int)):
        try:
            frames.append(fit(source.read(refs[index]), size))
        except FrameError as error:
            first = first or str(error)
    if not frames:
        raise InputError(f"{source.spec}: no frame can be read; the first says: {first}")
    return frames
