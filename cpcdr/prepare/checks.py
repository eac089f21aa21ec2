"""Checks of depth on some frames before hours are spent on all of them, and of the regions."""

from collections.abc import Sequence

import numpy as np

from cpcdr.dataset import PreparedDataset
from cpcdr.depth.health import measure_health, training_warnings
from cpcdr.depth.source import DepthSource
from cpcdr.frames import FrameSource
from cpcdr.frames.pick import spread, spread_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.grouping import regions_of_frame
from cpcdr.regions.quality import LIMITS, ShapeQuality, shape_quality
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import phase
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


@phase("checking the depth of some frames")
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


REMEDIES = {
    "giant region": "see in the run's figure whether their depth is flat, or lower "
    "--regions.separation",
    "dust": "raise --regions.separation or --regions.min-superpixels",
    "stripes": "see in the run's figure whether disparity has steps from row to row, and leave "
    "--regions.preset paper out, which cuts distant surfaces so",
    "rows": "see in the run's figure whether disparity shows objects, or only the height in the "
    "image; if so, take another --depth",
}
"""What to do about each problem of regions (`cpcdr.regions.quality.LIMITS`)."""


@phase("grouping some frames")
def refuse_hopeless(config: PrepareConfig, depth: DepthSource, source: FrameSource) -> None:
    """Group some frames before hours are spent on all.

    Raises:
        InputError: nothing can be learned from the regions of most of them, and
            ``config.allow_poor_depth`` is not set, or no frame can be read.
    """
    if config.allow_poor_depth or config.region_maps is not None:
        return
    qualities = []
    for frame in spread_frames(source, config.size, CHECKED_FRAMES):
        try:
            (disparity,) = depth([frame])
            regions, _ = regions_of_frame(frame.image, disparity, frame.intrinsics, config.regions)
        except FrameError:  # the pipeline counts it and says why
            continue
        qualities.append(shape_quality(regions))
    for name, values in _common(qualities).items():
        if np.mean(values) > LIMITS[name].hopeless:
            raise InputError(
                f"Regions from {depth.name} are hopeless: {_sentence(name, values, qualities)}, "
                "or continue with --allow-poor-depth."
            )


@phase("checking the regions of some frames")
def check_regions(dataset: PreparedDataset, run: Run, earlier: Sequence[str] = ()) -> None:
    """Warn of problems in most of some frames, and record them and ``earlier`` warnings."""
    indices = spread(len(dataset), CHECKED_FRAMES)
    qualities = [shape_quality(sample.regions) for sample in dataset.samples(indices)]
    measures = [limit.measure for limit in LIMITS.values()]
    means = {name: float(np.mean([getattr(q, name) for q in qualities])) for name in measures}
    run.metrics({"checked_regions": means}, step=0)
    warnings = [_sentence(*problem, qualities) for problem in _common(qualities).items()]
    for warning in warnings:
        print(f"warning: {warning}.")
    if warnings:
        run.tags({"cpcdr.alarm": "; ".join([*earlier, *warnings])})


def _common(qualities: Sequence[ShapeQuality]) -> dict[str, list[float]]:
    """The problems of most frames, with their measures in the frames that have them."""
    found: dict[str, list[float]] = {}
    for quality in qualities:
        for name, value in quality.problems().items():
            found.setdefault(name, []).append(value)
    return {name: values for name, values in found.items() if 2 * len(values) > len(qualities)}


def _sentence(name: str, values: Sequence[float], qualities: Sequence[ShapeQuality]) -> str:
    what = LIMITS[name].sentence.format(100 * np.mean(values))
    return f"{what} in {len(values)} of {len(qualities)} checked frames: {REMEDIES[name]}"
