"""Measure coherent depth regions, beside SLIC, Felzenszwalb and depth components.

Examples:
  cpcdr evaluate-regions
  cpcdr evaluate-regions --frames camvid:CamVid/val --size 192 256 \\
      --depth network:runs/depth/checkpoint
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.sources import open_depth
from cpcdr.evaluate.config import EvaluateRegionsConfig
from cpcdr.frames import Frame, fit, open_frames
from cpcdr.regions.alternatives import depth_components, felzenszwalb, slic
from cpcdr.regions.grouping import regions_of_frame
from cpcdr.regions.quality import label_quality, shape_quality
from cpcdr.runtime.config import config_hash, to_plain, write_atomic
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.run import open_run
from cpcdr.visualize.pictures import colour_disparity, colour_regions, contact_sheet, save_png

OURS = "depth regions"


def evaluate_regions(config: EvaluateRegionsConfig) -> dict[str, Any]:
    """Measure, record, draw.

    Returns:
        ``methods``: the means over the frames of every measure by method; ``sizes``: histogram of
        region sizes (share of regions by power of four of the area in pixels); ``alarms``: how
        many frames set off each; counts.

    Raises:
        InputError: frames or depth cannot be used.
    """
    start = time.perf_counter()
    plain = {k: v for k, v in to_plain(config).items() if k not in ("tracking", "out")}
    digest = config_hash(plain)
    rows: dict[str, list[dict[str, float]]] = {}
    alarms: dict[str, int] = {}
    sizes = np.zeros(12)
    shown: list[list[NDArray[np.uint8]]] = []
    with open_run(config.tracking, "evaluate-regions", digest, plain, config.out) as run:
        frames = 0
        for frame, disparity in _frames(config):
            frames += 1
            cuts = dict(_cuts(config, frame, disparity))
            for method, ids in cuts.items():
                rows.setdefault(method, []).append(_measure(ids, disparity, frame))
            for alarm in shape_quality(cuts[OURS]).warnings():
                kind = "giant region" if alarm.startswith("one region") else "dust"
                alarms[kind] = alarms.get(kind, 0) + 1
            area = np.bincount(cuts[OURS].ravel().astype(np.int64))
            sizes += np.bincount(
                np.clip(np.log2(np.maximum(area, 1)) / 2, 0, 11).astype(int), minlength=12
            )
            if len(shown) < 4:
                pictures = [
                    colour_regions(ids.astype(np.int64), frame.image) for ids in cuts.values()
                ]
                shown.append([frame.image, colour_disparity(disparity), *pictures])
                titles = ["frame", "disparity", *cuts]
        if not frames:
            raise InputError(f"{config.frames}: no frame can be measured; check frames and depth.")
        sheet = contact_sheet(shown, titles)
        run.figure("regions", sheet)
        save_png(config.out / "regions.png", sheet)
        means = {
            method: {name: float(np.nanmean([r[name] for r in found])) for name in found[0]}
            for method, found in rows.items()
        }
        result: dict[str, Any] = {
            "frames": frames,
            "methods": means,
            "sizes": {f"{4**i} px": round(float(s), 4) for i, s in enumerate(sizes / sizes.sum())},
            "alarms": alarms,
            "config_hash": digest,
            "run_id": run.run_id,
            "seconds": round(time.perf_counter() - start, 1),
        }
        run.metrics(means[OURS], step=0)
        write_atomic(config.out / "report.json", json.dumps(result, indent=2) + "\n")
        run.artifact(config.out / "report.json")
        print(_table(means, alarms, frames))
        return result


def _frames(config: EvaluateRegionsConfig) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """Frames with their disparity; those that cannot be used are counted and left out."""
    source, depth = open_frames(config.frames, config.options), open_depth(config.depth)
    rejected: list[str] = []
    for ref in Progress(source.refs(), desc="regions", unit="frame"):
        try:
            frame = source.read(ref)
            frame = fit(frame, config.size) if min(config.size) > 0 else frame
            (disparity,) = depth([frame])
        except FrameError as error:
            rejected.append(str(error))
            continue
        yield frame, disparity
    if rejected:
        print(f"{len(rejected)} frames left out; first error: {rejected[0]}")


def _cuts(
    config: EvaluateRegionsConfig, frame: Frame, disparity: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.integer]]]:
    """Every method's regions of a frame, as many as ours finds."""
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


def _table(means: dict[str, dict[str, float]], alarms: dict[str, int], frames: int) -> str:
    names = list(next(iter(means.values())))
    lines = ["", " " * 20 + "".join(f"{name[:16]:>18s}" for name in names)]
    for method, row in means.items():
        lines.append(f"  {method:18s}" + "".join(f"{row[name]:18.3f}" for name in names))
    lines += [f"  alarm: {kind} in {count} of {frames} frames" for kind, count in alarms.items()]
    return "\n".join([*lines, ""])
