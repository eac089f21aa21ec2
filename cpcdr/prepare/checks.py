"""A look at the depth of some frames before hours are spent on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from cpcdr.depth.health import look_at, training_alarms
from cpcdr.depth.sources import DepthSource
from cpcdr.errors import FrameError, InputError
from cpcdr.frames import Frame, FrameSource, fit
from cpcdr.tracking import Run


def depth_alarms(depth: DepthSource, frames: Iterator[Frame]) -> list[str]:
    """A sentence for each thing that is wrong with a source on some frames, as far as is known.

    What the training of a network said at its end counts too.
    """
    found = training_alarms(getattr(depth, "metrics", {}))
    return found + look_at(depth, list(frames)).alarms()


def check_depth(depth: DepthSource, frames: Iterator[Frame], allow_poor: bool, run: Run) -> None:
    """Say what is wrong with the depth, mark the run, and refuse unless that was allowed.

    Args:
        depth: the source; one that knows the exact depth is not looked at.
        frames: some frames of the video, read only if they are looked at.
        allow_poor: go on in spite of alarms.
        run: gets the tag ``cpcdr.alarm``.

    Raises:
        InputError: the depth is bad, and that was not allowed.
    """
    if depth.name == "ground-truth":
        return
    alarms = depth_alarms(depth, frames)
    if not alarms:
        return
    run.tags({"cpcdr.alarm": "; ".join(alarms)})
    if not allow_poor:
        raise InputError(
            f"{depth.name}: {alarms[0]}; give better depth, or --allow-poor-depth to go on."
        )
    for alarm in alarms:
        print(f"warning: {alarm}.")


def some_frames(source: FrameSource, size: Sequence[int], count: int = 8) -> Iterator[Frame]:
    """Readable frames at the working size (0 0: their own), evenly spread over the source."""
    refs = source.refs()
    for index in np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).astype(int)):
        with suppress(FrameError):  # the pipeline rejects it with its reason
            frame = source.read(refs[index])
            yield fit(frame, (size[0], size[1])) if min(size) > 0 else frame
