"""Evaluation of a depth network without true depth: photometric error, and motion against poses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.depth.model import DepthModel
from cpcdr.depth.trajectory import MONODEPTH2, positions, snippet_errors, true_positions
from cpcdr.frames import Frame, FrameRef, FrameSource, fit
from cpcdr.runtime.device import to_unit_float
from cpcdr.runtime.errors import FrameError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tracking.run import Run
from cpcdr.train.depth_task import DepthTask
from cpcdr.visualize.pictures import colour_disparity, contact_sheet
from cpcdr.visualize.plots import trajectory_figure

_TOGETHER = 16
"""Frame pairs per batch of motion estimation."""


@phase("measuring reprojection")
@torch.inference_mode()
def photometry(task: DepthTask, model: DepthModel, out: Path, run: Run) -> dict[str, Any]:
    """Reprojection error and that of identity reprojection, over all triplets, on the CPU."""
    sums, pixels = np.zeros(3), 0
    rows: list[list[NDArray[np.uint8]]] = []
    for batch in task.plain_batches(torch.device("cpu")):
        made = model.reconstruct(batch, aligned=False)
        photometric = made.photometric
        aligned = model.reconstruct(batch).photometric
        sums += [float(e.sum()) for e in (photometric.error, photometric.identity, aligned.error)]
        pixels += photometric.error.numel()
        if len(rows) < 5:
            image = (batch["images"][0, 1].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            error = np.clip(photometric.error[0].numpy() / 0.5, 0, 1)
            mask = np.repeat(photometric.mask[0].numpy()[..., None] * np.uint8(255), 3, axis=2)
            disparity = colour_disparity(made.disparities[0][0, 0].numpy())
            rows.append([image, disparity, colour_disparity(error + 1e-6), mask])
    sheet = contact_sheet(rows, ["frame", "disparity", "reprojection error", "pixels used"])
    run.figure("photometry", sheet, out)
    photometric_error, identity, aligned_error = (sums / max(1, pixels)).tolist()
    return {
        "photometric": photometric_error,
        "photometric_aligned": aligned_error,
        "identity": identity,
        "below_identity": 1 - photometric_error / identity,
        "triplets": len(task.scan.triplets),
        "focal": float(camera.log_focal.exp()) if (camera := model.intrinsics) else None,
    }


@phase("measuring the motion of the camera")
def motion(task: DepthTask, model: DepthModel, out: Path, run: Run) -> dict[str, Any]:
    """Trajectory errors over snippets of five frames with known poses, on the CPU."""
    errors, baseline_errors, longest = [], [], (np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))
    for motions, poses in _runs(task.source, model):
        predicted, ahead = snippet_errors(motions, poses)
        errors.append(predicted)
        baseline_errors.append(ahead)
        longest = max(longest, (motions, poses), key=lambda pair: len(pair[1]))
    if not errors or not sum(map(len, errors)):
        names = ("trajectory_error", "straight_error")
        return {name + kind: None for name in names for kind in ("", "_monodepth2")}
    path, truth = positions(longest[0]), true_positions(longest[1])
    scale = float((path * truth).sum() / max(float((path**2).sum()), 1e-12))
    figure = trajectory_figure({"true": truth, "predicted, one scale": scale * path}, "from above")
    run.figure("trajectory", figure, out)
    error, straight = (float(np.concatenate(e).mean()) for e in (errors, baseline_errors))
    return {
        "trajectory_error": error,
        "straight_error": straight,
        "trajectory_error_monodepth2": error * MONODEPTH2,
        "straight_error_monodepth2": straight * MONODEPTH2,
        "snippets": sum(map(len, errors)),
    }


@torch.inference_mode()
def _runs(
    source: FrameSource, model: DepthModel
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Predicted motions [N - 1, 4, 4] and true poses [N, 4, 4] of runs of consecutive frames."""
    size = (model.config.height, model.config.width)
    frames: list[Frame] = []
    for ref in [*source.refs(), None]:
        frame = None if ref is None else _read_or_none(source, ref, size)
        usable = frame is not None and frame.pose is not None
        last = frames[-1].ref if frames else None
        follows = (
            last is not None
            and ref is not None
            and (last.sequence, last.frame_index + 1) == (ref.sequence, ref.frame_index)
        )
        if frames and not (usable and follows):
            if len(frames) > 1:
                yield (
                    _motions(frames, model),
                    np.stack([f.pose for f in frames if f.pose is not None]),
                )
            frames = []
        if usable and frame is not None:
            frames.append(replace(frame, encoded=b""))


def _read_or_none(source: FrameSource, ref: FrameRef, size: tuple[int, int]) -> Frame | None:
    try:
        return fit(source.read(ref), size)
    except FrameError:
        return None  # ends the run, as it ends the triplets


def _motions(frames: list[Frame], model: DepthModel) -> NDArray[np.float64]:
    motions = []
    for start in range(0, len(frames) - 1, _TOGETHER):
        chunk = frames[start : start + _TOGETHER + 1]
        images = to_unit_float(torch.from_numpy(np.stack([f.image for f in chunk])))
        cameras = torch.from_numpy(np.stack([f.intrinsics for f in chunk]))
        motions.append(model.sequence_motions(images, cameras))
    return torch.cat(motions).double().numpy()
