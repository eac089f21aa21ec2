"""Measure coherent depth regions, beside SLIC, Felzenszwalb and depth components.

Examples:
  cpcdr evaluate-regions
  cpcdr evaluate-regions --frames camvid:CamVid/val --size 192 256 \\
      --depth network:runs/depth/checkpoint
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.commands.inputs import record_frames, short_name
from cpcdr.depth.config import default_depth
from cpcdr.depth.sources import DepthSource, depth_digest, open_depth
from cpcdr.evaluate.config import EvaluateRegionsConfig
from cpcdr.frames import Frame, FrameSource, fit, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.regions.alternatives import depth_components, felzenszwalb, slic
from cpcdr.regions.grouping import regions_of_frame
from cpcdr.regions.quality import label_quality, shape_quality
from cpcdr.runtime.config import config_hash, without
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tables import counted, text_table
from cpcdr.runtime.tracking.run import run_in_folder
from cpcdr.visualize.pictures import colour_disparity, colour_regions, contact_sheet

OURS = "depth regions"


@dataclass
class _Measures:
    """Measures accumulated over frames; ``sizes`` counts regions by power of four of their area."""

    frames: int = 0
    rows: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    sizes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(12))
    pictures: list[list[NDArray[np.uint8]]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    def add(
        self, frame: Frame, disparity: NDArray[np.float32], cuts: dict[str, NDArray[np.integer]]
    ) -> None:
        """Measure the regions of one frame by every method."""
        self.frames += 1
        for method, ids in cuts.items():
            self.rows.setdefault(method, []).append(_measure(ids, disparity, frame))
        for kind in shape_quality(cuts[OURS]).problems():
            self.warnings[kind] = self.warnings.get(kind, 0) + 1
        area = np.bincount(cuts[OURS].ravel().astype(np.int64))
        power = np.clip(np.log2(np.maximum(area, 1)) / 2, 0, 11).astype(int)
        self.sizes += np.bincount(power, minlength=12)
        if len(self.pictures) < 4:
            coloured = [colour_regions(ids.astype(np.int64), frame.image) for ids in cuts.values()]
            self.pictures.append([frame.image, colour_disparity(disparity), *coloured])
            self.titles = ["frame", "disparity", *cuts]

    def means(self) -> dict[str, dict[str, float]]:
        """Means over the frames of every measure, by method."""
        return {
            method: {name: _mean([row[name] for row in rows]) for name in rows[0]}
            for method, rows in self.rows.items()
        }


def evaluate_regions(config: EvaluateRegionsConfig) -> dict[str, Any]:
    """Evaluate regions; record the results and figures.

    Returns:
        ``methods``: the means over the frames of every measure by method; ``sizes``: histogram of
        region sizes (fraction of regions by power of four of the area in pixels); ``warnings``:
        number of frames with each; counts.

    Raises:
        InputError: frames or depth cannot be used.
    """
    start = time.perf_counter()
    config = replace(config, depth=config.depth or default_depth(config.frames))
    plain = without(config, "tracking", "out")
    source, depth = open_frames(config.frames, config.options), open_depth(config.depth)
    inputs = [frames_digest(source), depth_digest(depth)]
    digest = config_hash({**plain, "inputs": inputs})
    kind, about = "evaluate-regions", (depth.name, short_name(source.spec))
    with run_in_folder(config.tracking, kind, digest, plain, config.out, about) as run:
        record_frames(run, source, inputs[0], "evaluation")
        measures = _Measures()
        for frame, disparity in _frames(source, depth, config.size):
            measures.add(frame, disparity, dict(_cuts(config, frame, disparity)))
        if not measures.frames:
            raise InputError(f"{config.frames}: no frame can be measured; check frames and depth.")
        sheet = contact_sheet(measures.pictures, measures.titles)
        run.figure("regions", sheet, config.out)
        means, sizes = measures.means(), measures.sizes / measures.sizes.sum()
        result: dict[str, Any] = {
            "frames": measures.frames,
            "methods": means,
            "sizes": {f"{4**i} px": round(float(s), 4) for i, s in enumerate(sizes)},
            "warnings": measures.warnings,
            "protocol": source.protocol or None,
            "data": {"frames": config.frames, "depth": config.depth},
            "config_hash": digest,
            "run_id": run.run_id,
            "seconds": round(time.perf_counter() - start, 1),
        }
        run.metrics(means[OURS], step=0)
        run.describe(means[OURS])
        write_json(config.out / "report.json", result)
        run.artifact(config.out / "report.json")
        print(_table(means, measures.warnings, measures.frames))
        out, given = config.out, ["--frames", config.frames, "--depth", config.depth]
        end_with(
            {"report": out / "report.json", "pictures": out / "regions.png", "run": run.place},
            ["prepare", *given, "--out", "runs/dataset"],
        )
        return result


def _frames(
    source: FrameSource, depth: DepthSource, size: tuple[int, int]
) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """Frames with their disparity; reports frames left out at the end."""
    rejected: list[str] = []
    with Progress(source.refs(), desc="regions", unit="frame") as bar:
        for ref in bar:
            try:
                frame = fit(source.read(ref), size)
                (disparity,) = depth([frame])
            except FrameError as error:
                rejected.append(str(error))
                continue
            yield frame, disparity
    if rejected:
        print(f"{counted(len(rejected), 'frame')} left out; first error: {rejected[0]}")


def _cuts(
    config: EvaluateRegionsConfig, frame: Frame, disparity: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.integer]]]:
    """Regions of a frame by every method, with the number that ours yields."""
    ours, _ = regions_of_frame(frame.image, disparity, frame.intrinsics, config.regions)
    yield OURS, ours
    if config.alternatives:
        count = int(ours.max()) + 1
        yield "SLIC", slic(frame.image, count)
        yield "Felzenszwalb", felzenszwalb(frame.image, count)
        yield "depth components", depth_components(disparity, count)


def _measure(
    ids: NDArray[np.integer], disparity: NDArray[np.float32], frame: Frame
) -> dict[str, float]:
    row = asdict(shape_quality(ids, disparity))
    if frame.labels is not None and (frame.labels != 255).any():
        row = asdict(label_quality(ids, frame.labels)) | row
    return row


def _mean(values: list[float]) -> float:
    """Of the frames where it was measured; NaN where it never was, as without labels."""
    measured = [value for value in values if not np.isnan(value)]
    return float(np.mean(measured)) if measured else float("nan")


def _table(means: dict[str, dict[str, float]], warnings: dict[str, int], frames: int) -> str:
    """The result as a printed table."""
    names = list(next(iter(means.values())))
    rows = [[method, *(f"{row[name]:.3f}" for name in names)] for method, row in means.items()]
    table = text_table([["", *names], *rows], str.rjust)
    lines = [f"warning: {kind} in {n} of {frames} frames" for kind, n in warnings.items()]
    return "\n".join(["", table, *lines, ""])
