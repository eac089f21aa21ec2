"""Train depth and pose networks self-supervised on your own video.

Depth starts from the network in this package and stays near it where the video says nothing. On
frames that were held out, the trained network is compared with it, and the better one is kept.

Examples:
  cpcdr train-depth
  cpcdr train-depth --frames video:drive.mp4 --out runs/drive-depth
  cpcdr train-depth --preset scratch --frames video:drive.mp4
  cpcdr train-depth --preset paper --frames video:a.mp4,video:b.mp4
"""

import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.commands.inputs import length_of, record_frames, short_name
from cpcdr.depth.camera import LearnedCamera
from cpcdr.depth.config import DepthConfig
from cpcdr.depth.motion_on_ray import measure_on_ray
from cpcdr.depth.network import Network, load_depth_network
from cpcdr.depth.sources import depth_digest
from cpcdr.depth.street import Street, load_street_network, street_file
from cpcdr.depth.triplets import refuse_single_frames
from cpcdr.frames import FrameSource, notes_of, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.prepare.checks import depth_warnings, way_forward
from cpcdr.runtime.checkpoint import publish_checkpoint, read_checkpoint, write_checkpoint
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.progress import phase
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.train.config import TrainDepthConfig
from cpcdr.train.depth_task import DepthTask, with_size
from cpcdr.train.engine import train
from cpcdr.train.history import read_history
from cpcdr.visualize.pictures import as_pictures, colour_disparity, contact_sheet

_MIN_ROTATING = 0.02
"""Least fraction of rotating triplets that constrains a learned focal length."""


def train_depth(config: TrainDepthConfig) -> dict[str, Any]:
    """Train or resume; record the run and its figures.

    Returns:
        ``checkpoint``, ``photometric`` and ``identity`` (the loss of identity reprojection),
        ``held_out``, the error on held-out frames relative to that of the network it started from
        (with a prior), and ``kept``: ``trained`` or ``start``; ``triplets``, ``steps``,
        ``seconds``, ``config_hash``, ``run_id`` ...; where the camera is learned,
        ``learned_intrinsics`` as ``--options.intrinsics`` takes them, ``learned_fov``, and
        ``turning``, the fraction of triplets with rotation in the second half of training.

    Raises:
        InputError: the frames cannot be used, or training failed.
    """
    start = time.perf_counter()
    source = open_frames(config.frames, config.options)
    learns = config.depth.intrinsics == "learn"
    print(f"{source.spec}: intrinsics {'learned' if learns else source.intrinsics_note}.")
    for note in notes_of(source):
        print(f"{note}.")
    refuse_single_frames(source, config.depth.spacing)
    network = _start_digest(config.depth)
    settings = config.train
    with ray_session(config.engine.dashboard) if config.engine.engine == "ray" else nullcontext():
        task = _task(config, source)
        inputs = {"options": to_plain(config.options), "frames": frames_digest(source)}
        inputs |= {"start": network} if network else {}
        identity = {"task": task.config(), "train": to_plain(settings), "inputs": inputs}
        digest = config_hash(identity)
        return {
            **_train(config, task, inputs, digest),
            "config_hash": digest,
            "seconds": round(time.perf_counter() - start, 1),
        }


def _start_digest(depth: DepthConfig) -> str:
    """Of the weights that training starts from or is held to; ``""`` where there are none."""
    if not depth.prior and depth.start == "scratch":
        return ""
    return depth_digest(Street(depth.start, street_file(depth.start)))


def _task(config: TrainDepthConfig, source: FrameSource) -> DepthTask:
    depth = with_size(config.depth, source)
    size = (depth.height, depth.width)
    motions = measure_on_ray(source, size) if config.engine.engine == "ray" else None
    task = DepthTask(depth, source, motions, config.seed)
    print(f"{task.scan.summary()} Trained at {size[1]}×{size[0]} pixels.")
    for name, still in task.still.items():
        print(
            f"{name}: {still.mean():.0%} of the picture never changes, such as a bonnet or an "
            "overlay, and tells nothing of the camera's motion."
        )
    return task


def _train(
    config: TrainDepthConfig, task: DepthTask, inputs: dict[str, Any], digest: str
) -> dict[str, Any]:
    source = task.source
    key = config_hash([digest, str(config.out.absolute())])
    about = (task.settings.start, short_name(source.spec), length_of(config.train))
    with run_in_folder(config.tracking, "depth", key, to_plain(config), config.out, about) as run:
        record_frames(run, source, inputs["frames"])
        run.tags({"cpcdr.config_hash": digest, "cpcdr.frames": source.spec})
        checkpoint = train(task, config.train, config.engine, config.out, run.metrics, inputs)
        better = _keep_the_better(task, checkpoint)
        sheet = depth_sheet(task, checkpoint)
        run.figure("depth", sheet, config.out)
        run.artifact(checkpoint / "config.yaml", "checkpoint")
        run.artifact(checkpoint / "model.safetensors", "checkpoint")
        rows = read_history(config.out / "history.jsonl")
        last = rows[-1]
        depth = Network(f"network:{checkpoint}", checkpoint)
        _check_network(task, depth, run)
        given = ["--frames", source.spec, "--depth", depth.name]
        end_with(
            {"network": checkpoint, "pictures": config.out / "depth.png", "run": run.place},
            ["evaluate-depth", *given, "--truth", ""],
            ["prepare", *given, "--out", "runs/dataset"],
        )
        result = {
            "checkpoint": str(checkpoint),
            "frames": source.spec,
            **better,
            **_report_camera(task, depth.camera, rows, run),
            "triplets": len(task.scan.triplets),
            "steps": last["step"],
            "photometric": last["photometric"],
            "identity": last["identity"],
            "seconds_per_step": last["seconds_per_step"],
            "data_wait_fraction": last["data_wait_fraction"],
            "run_id": run.run_id,
        }
        run.describe(result)
        return result


def _keep_the_better(task: DepthTask, checkpoint: Path) -> dict[str, Any]:
    """Put the network that training started from into the checkpoint if it is no worse."""
    values, weights = read_checkpoint(checkpoint, "depth")
    held_out = values["metrics"].get("held_out")
    if task.settings.start == "scratch":
        return {}
    if held_out is None:
        print("Too few frames to hold any out: compare it with what it started from by pictures.")
        return {}
    row = values["metrics"]
    errors = f"{row['held_out_error']:.4f} against {row['held_out_prior']:.4f}"
    if held_out < 1:
        print(f"On held-out frames it is better than what it started from ({errors}).")
        return {"held_out": held_out, "kept": "trained"}
    print(
        f"On held-out frames the network it started from is no worse ({errors}): {checkpoint} "
        "holds that one."
    )
    start = load_street_network(street_file(task.settings.start)).state_dict()
    weights |= {f"depth.{name}": value for name, value in start.items()}
    folder = write_checkpoint(checkpoint.parent / "kept", values["step"], values, weights, {})
    publish_checkpoint(folder, checkpoint)
    shutil.rmtree(folder.parent)
    return {"held_out": 1.0, "kept": "start"}


@phase("checking the depth of some frames")
def _check_network(task: DepthTask, depth: Network, run: Run) -> None:
    """Run the depth check of prepare on the finished network, on frames of its own video."""
    size = (task.settings.height, task.settings.width)
    warnings = depth_warnings(depth, task.source, size)
    if warnings:
        run.tags({"cpcdr.alarm": "; ".join(warnings)})
    for warning in warnings:
        print(f"warning: {warning}.")
    if warnings:
        print(f"For better depth {way_forward(depth.name)}.")


def _report_camera(
    task: DepthTask, camera: LearnedCamera | None, rows: list[dict[str, float]], run: Run
) -> dict[str, Any]:
    """Report the source of the intrinsics; learned ones in pixels of the unscaled frames."""
    source = task.source
    if camera is None:
        return {"intrinsics": source.intrinsics_note}
    # Over the second half: before, motions are too inaccurate.
    turning = fmean(row["turning"] for row in rows[len(rows) // 2 :])
    height, width = source.read(task.scan.triplets[0][1]).image.shape[:2]
    facts = camera.facts((height, width))
    print(
        f"learned intrinsics of {width}×{height} frames: --options.intrinsics "
        f"{facts['learned_intrinsics']} ({facts['learned_fov']} degrees horizontal field of view), "
        f"from the {turning:.1%} of the triplets in which the camera rotates."
    )
    run.tags({"cpcdr.intrinsics": facts["learned_intrinsics"]})
    if turning < _MIN_ROTATING:
        print(
            "warning: too little rotation in this video to estimate the focal length, which may "
            "still be near its initial value; if you know it, train with --depth.intrinsics known "
            "and --options.intrinsics or --options.fov, or add video with bends."
        )
    return {"intrinsics": "learned", **facts, "turning": round(turning, 4)}


def _as_recorded(pictures: Tensor, flipped: Tensor) -> Tensor:
    """Pictures [B, ..., H, W] of which training mirrored some, the way they were."""
    mirrored = flipped.view(-1, *[1] * (pictures.ndim - 1))
    return torch.where(mirrored, pictures.flip(-1), pictures)


@phase("drawing pictures")
def depth_sheet(task: DepthTask, checkpoint: Path) -> NDArray[np.uint8]:
    """Frames, disparity, the frame reconstructed from its neighbour, and the auto-mask."""
    batch = next(task.batches(0, 0, 1, torch.device("cpu")))
    shown = task.example(load_depth_network(checkpoint), batch)
    flipped = batch["flipped"]
    shown = {name: _as_recorded(each, flipped[: len(each)]) for name, each in shown.items()}
    images, warped = as_pictures(shown["image"]), as_pictures(shown["synthesised"])
    masks = [np.repeat(m[..., None] * np.uint8(255), 3, axis=2) for m in shown["automask"].numpy()]
    disparities = [colour_disparity(d) for d in shown["disparity"].numpy()]
    rows = [list(row) for row in zip(images, disparities, warped, masks, strict=True)]
    return contact_sheet(rows, ["frame", "disparity", "warped next frame", "pixels used"])
