"""A look at the depth of some frames before hours are spent on all of them, and at the regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cpcdr.dataset import PreparedDataset
from cpcdr.depth.health import measure_health, training_warnings
from cpcdr.depth.source import DepthSource
from cpcdr.frames import FrameSource
from cpcdr.frames.pick import spread, spread_frames
from cpcdr.regions.quality import GIANT, shape_quality
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.run import Run

CHECKED_FRAMES = 8
"""Frames, spread over all."""


def depth_alarms(depth: DepthSource, source: FrameSource, size: tuple[int, int]) -> list[str]:
    """A sentence for each thing that is wrong with the depth of some frames, as far as is known.

    The last metrics of a network's training are checked too.
    """
    frames = spread_frames(source, size, CHECKED_FRAMES)
    warnings = training_warnings(getattr(depth, "metrics", {}))
    return warnings + measure_health(depth, frames).warnings()


def check_depth(
    depth: DepthSource, source: FrameSource, size: tuple[int, int], allow_poor: bool, run: Run
) -> list[str]:
    """Say what is wrong with the depth, mark the run, and refuse unless that was allowed.

    Args:
        depth: the source of depth; one that knows the exact depth is not checked.
        source: the video.
        size: height and width of the prepared frames; 0 0: each frame's own.
        allow_poor: go on in spite of alarms.
        run: gets the tag ``cpcdr.alarm``.

    Returns:
        a sentence for each thing that is wrong.

    Raises:
        InputError: the depth is bad, and that was not allowed; or no frame can be read.
    """
    if depth.name == "ground-truth":
        return []
    alarms = depth_alarms(depth, source, size)
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
    chosen = spread(len(dataset), CHECKED_FRAMES)
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
