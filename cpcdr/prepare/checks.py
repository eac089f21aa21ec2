"""A look at the depth of some frames before hours are spent on all of them, and at the regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from cpcdr.dataset import PreparedDataset
from cpcdr.depth.health import measure_health, training_warnings
from cpcdr.depth.source import DepthSource
from cpcdr.frames import Frame, FrameSource, fit
from cpcdr.regions.quality import GIANT, shape_quality
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.tracking.run import Run

_LOOKED_AT = 8
"""Frames, spread over all."""


def depth_alarms(depth: DepthSource, frames: Iterator[Frame]) -> list[str]:
    """A sentence for each thing that is wrong with a source on some frames, as far as is known.

    What the training of a network said at its end counts too.
    """
    found = training_warnings(getattr(depth, "metrics", {}))
    return found + measure_health(depth, list(frames)).warnings()


def check_depth(
    depth: DepthSource, frames: Iterator[Frame], allow_poor: bool, run: Run
) -> list[str]:
    """Say what is wrong with the depth, mark the run, and refuse unless that was allowed.

    Args:
        depth: the source; one that knows the exact depth is not looked at.
        frames: some frames of the video, read only if they are looked at.
        allow_poor: go on in spite of alarms.
        run: gets the tag ``cpcdr.alarm``.

    Returns:
        a sentence for each thing that is wrong.

    Raises:
        InputError: the depth is bad, and that was not allowed.
    """
    if depth.name == "ground-truth":
        return []
    alarms = depth_alarms(depth, frames)
    if not alarms:
        return []
    run.tags({"cpcdr.alarm": "; ".join(alarms)})
    if not allow_poor:
        raise InputError(
            f"Depth by {depth.name} is poor: {alarms[0]}; give better depth, or "
            "--allow-poor-depth to go on."
        )
    for alarm in alarms:
        print(f"warning: {alarm}.")
    return alarms


def check_regions(dataset: PreparedDataset, run: Run, known: Sequence[str] = ()) -> None:
    """Say whether one region has swallowed the scene on most of some frames; mark the run.

    Args:
        dataset: what was prepared.
        run: gets the tag ``cpcdr.alarm``.
        known: what was wrong before, which the tag says too.
    """
    count = min(_LOOKED_AT, len(dataset))
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)).tolist()
    largest = [shape_quality(sample.regions).largest for sample in dataset.samples(chosen)]
    giants = [share for share in largest if share > GIANT]
    if 2 * len(giants) <= len(largest):
        return
    alarm = (
        f"one region covers {100 * np.mean(giants):.0f} % of the image in {len(giants)} of "
        f"{len(largest)} frames that were looked at: see the run's figure whether its depth is "
        "flat, or lower --regions.separation"
    )
    print(f"warning: {alarm}.")
    run.tags({"cpcdr.alarm": "; ".join([*known, alarm])})


def some_frames(
    source: FrameSource, size: Sequence[int], count: int = _LOOKED_AT
) -> Iterator[Frame]:
    """Readable frames at the working size (0 0: their own), evenly spread over the source."""
    refs = source.refs()
    for index in np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).astype(int)):
        with suppress(FrameError):  # the pipeline rejects it with its reason
            frame = source.read(refs[index])
            yield fit(frame, (size[0], size[1])) if min(size) > 0 else frame
