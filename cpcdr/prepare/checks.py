"""Checks of depth on some frames before hours are spent on all of them, and of the regions."""

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
"""Number of checked frames, spread over all."""


def depth_warnings(depth: DepthSource, source: FrameSource, size: tuple[int, int]) -> list[str]:
    """Problems with the depth of some frames, one sentence each.

    The last metrics of a network's training are checked too.
    """
    frames = spread_frames(source, size, CHECKED_FRAMES)
    warnings = training_warnings(getattr(depth, "metrics", {}))
    return warnings + measure_health(depth, frames).warnings()


def check_depth(
    depth: DepthSource, source: FrameSource, size: tuple[int, int], allow_poor: bool, run: Run
) -> list[str]:
    """Check the depth: warn and tag the run if allowed to continue, otherwise refuse.

    Args:
        depth: the depth source; exact depth is not checked.

    Returns:
        the warnings, one sentence each.

    Raises:
        InputError: the check fails and ``allow_poor`` is not set, or no frame can be read.
    """
    if depth.name == "ground-truth":
        return []
    warnings = depth_warnings(depth, source, size)
    if not warnings:
        return []
    run.tags({"cpcdr.alarm": "; ".join(warnings)})
    if not allow_poor:
        raise InputError(
            f"Depth by {depth.name} is poor: {warnings[0]}; {way_forward(depth.name)}, or "
            "continue with --allow-poor-depth."
        )
    for warning in warnings:
        print(f"warning: {warning}.")
    return warnings


def way_forward(name: str) -> str:
    """What to try instead of a poor source of depth, in order, with the flags to give."""
    ways = [
        "--depth street, which needs no training",
        "another network by --depth hf:NAME",
        "cpcdr train-depth on more video, with --depth.spacing 1 3 where the camera moves little",
        "the camera's --options.intrinsics or --options.fov",
    ]
    own = 1 if name.partition(":")[0] == "street" else 0
    return f"try {'; '.join(ways[own:])}"


def check_regions(dataset: PreparedDataset, run: Run, earlier: Sequence[str] = ()) -> None:
    """Warn and tag the run, with ``earlier`` warnings, if one region covers most frames checked."""
    indices = spread(len(dataset), CHECKED_FRAMES)
    largest = [shape_quality(sample.regions).largest for sample in dataset.samples(indices)]
    giants = [fraction for fraction in largest if fraction > GIANT]
    if 2 * len(giants) <= len(largest):
        return
    warning = (
        f"one region covers {100 * np.mean(giants):.0f} % of the image in {len(giants)} of "
        f"{len(largest)} checked frames: see in the run's figure whether their depth is flat, or "
        "lower --regions.separation"
    )
    print(f"warning: {warning}.")
    run.tags({"cpcdr.alarm": "; ".join([*earlier, warning])})
