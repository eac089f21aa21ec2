"""Every stage as a Python function: ``from cpcdr import api``.

A call is the command of the same name: the same defaults, folders, records and resuming; what is
done already is not done again. An option that has no argument here is given in ``flags`` under
the name that it has on the command line, so that ``--train.lr 5e-4`` is
``flags={"train.lr": 5e-4}``. Bad input raises `cpcdr.runtime.errors.InputError` with one sentence.
The results are small objects: paths and scores, and in ``record`` all that the command reports.

Arguments that are None keep the command's default, which ``preset`` decides.

>>> from cpcdr import api
>>> api.pretrain("nowhere", engine="local")
Traceback (most recent call last):
cpcdr.runtime.errors.InputError: .../nowhere: is not a prepared dataset; make one with...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cpcdr
from cpcdr.api.call import call
from cpcdr.api.results import (
    DepthResult,
    EvaluateResult,
    FinetuneResult,
    PrepareResult,
    PretrainResult,
    RunResult,
    SegmentResult,
)
from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS
from cpcdr.runtime.config import Engine

__all__ = [
    "evaluate",
    "finetune",
    "load",
    "prepare",
    "pretrain",
    "run",
    "segment",
    "train_depth",
]

load = cpcdr.load

Flags = Mapping[str, Any]
"""Options by their names on the command line: numbers, text, booleans, tuples."""
Preset = Literal["small", "paper"]
"""Sizes for a laptop's CPU, or for GPUs."""
Tracking = Literal["mlflow", "none"]


def train_depth(
    frames: str = "synthetic:",
    *,
    out: Path | str = "runs/depth",
    preset: Literal["small", "scratch", "paper"] = "small",
    steps: int | None = None,
    seed: int = 0,
    engine: Engine = "ray",
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> DepthResult:
    """Train a depth network on video, self-supervised (``cpcdr train-depth``).

    Args:
        frames: ``KIND:PATH`` of video or frame sequences; several joined by commas.
        out: run folder.
        preset: where the defaults come from.
        steps: optimiser steps.
        seed: of weights, order and augmentation.
        engine: ``ray``, or ``local``: in this process.
        tracking: whether the run is recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> small = {"depth.height": 64, "depth.width": 128, "depth.batch_size": 2}
    >>> street = "synthetic:streets=2,frames=6,height=64,width=128"
    >>> depth = api.train_depth(street, steps=2, engine="local", flags=small)
    synthetic:...
    >>> depth.checkpoint.name, depth.steps
    ('checkpoint', 2)
    """
    arguments: dict[str, Any] = {
        "frames": frames,
        "out": out,
        "preset": preset,
        "train.steps": steps,
    }
    arguments |= {"seed": seed, "engine": engine, "tracking": tracking}
    return call("train_depth", DepthResult, arguments, flags)


def prepare(
    frames: str = "synthetic:",
    *,
    depth: str = "",
    out: Path | str = "runs/dataset",
    size: tuple[int, int] = (0, 0),
    preset: Preset = "small",
    engine: Engine = "ray",
    workers: int = 0,
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> PrepareResult:
    """Make a dataset of frames, disparity and coherent depth regions (``cpcdr prepare``).

    Args:
        frames: ``KIND:PATH``, such as ``video:drive.mp4`` or ``images:FOLDER``.
        depth: source of depth; empty: the network in this package, or the synthetic street's truth.
        out: folder of the dataset.
        size: (H, W) of the prepared frames in pixels; (0, 0): chosen to show all of the picture.
        preset: where the defaults come from.
        engine: ``ray``, or ``local``: in this process.
        workers: actors; 0: one for each CPU core.
        tracking: whether the run is recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> street = "synthetic:streets=2,frames=4,height=64,width=128"
    >>> data = api.prepare(street, engine="local")
    synthetic:...
    >>> data.dataset, data.frames, data.size
    ('runs/dataset', 8, (64, 128))
    """
    arguments: dict[str, Any] = {
        "frames": frames,
        "depth": depth,
        "out": out,
        "size": size,
        "preset": preset,
    }
    arguments |= {"engine": engine, "workers": workers, "tracking": tracking}
    return call("prepare", PrepareResult, arguments, flags)


def pretrain(
    data: Path | str = "runs/dataset",
    *,
    out: Path | str = "runs/pretrain",
    preset: Preset = "small",
    steps: int | None = None,
    backbone: str | None = None,
    init: str | None = None,
    seed: int = 0,
    engine: Engine = "ray",
    workers: int = 0,
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> PretrainResult:
    """Pre-train a segmentation network on a prepared dataset (``cpcdr pretrain``).

    Args:
        data: folder of `prepare`, or an address such as ``s3://bucket/dataset``.
        out: run folder.
        preset: where the defaults come from.
        steps: optimiser steps.
        backbone: such as ``resnet18`` or ``timm:NAME``.
        init: weights that the backbone starts from, such as a file of safetensors.
        seed: of weights, data order and every random draw.
        engine: ``ray``, or ``local``: in this process.
        workers: of data-parallel training under Ray; 0: one for each GPU, two without GPUs.
        tracking: whether the run is recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> trained = api.pretrain(
    ...     "runs/dataset", steps=2, backbone="resnet10", engine="local", flags={"model.width": 16}
    ... )
    >>> trained.checkpoint.name, trained.loss_over_lnK > 0
    ('checkpoint', True)
    """
    arguments: dict[str, Any] = {"data": data, "out": out, "preset": preset, "train.steps": steps}
    arguments |= {"model.backbone": backbone, "model.init": init, "seed": seed}
    arguments |= {"engine": engine, "workers": workers, "tracking": tracking}
    return call("pretrain", PretrainResult, arguments, flags)


def finetune(
    frames: str = "synthetic:seed=0,streets=48,frames=4,height=96,width=192",
    *,
    evaluate: str = "synthetic:seed=1000,streets=64,frames=1,height=96,width=192",
    network: Path | str = "scratch",
    out: Path | str = "runs/finetune",
    preset: Preset = "small",
    fraction: float = 1.0,
    steps: int | None = None,
    seed: int = 0,
    engine: Engine = "ray",
    workers: int = 0,
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> FinetuneResult:
    """Train a network with named classes on labelled frames, and score it (``cpcdr finetune``).

    Args:
        frames: ``KIND:PATH`` of labelled frames.
        evaluate: labelled frames to score on; empty: no score.
        network: what to start from: a checkpoint of `pretrain`, ``runs:/RUN_ID``,
            ``models:/NAME@ALIAS``, weights of a backbone, or ``scratch``.
        out: run folder.
        preset: where the defaults come from.
        fraction: of the labelled frames that is used.
        steps: optimiser steps.
        seed: of weights, order and augmentation.
        engine: ``ray``, or ``local``: in this process.
        workers: of data-parallel training under Ray; 0: one for each GPU, two without GPUs.
        tracking: whether the run is recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> street = "synthetic:streets=2,frames=4,height=64,width=128"
    >>> named = api.finetune(
    ...     street, evaluate=street, network="runs/pretrain", steps=2, engine="local"
    ... )
    synthetic:...
    >>> named.protocol, 0 <= named.miou <= 1, len(named.per_class_iou)
    ('synthetic', True, 7)
    """
    arguments: dict[str, Any] = {
        "frames": frames,
        "evaluate": evaluate,
        "network": network,
        "out": out,
    }
    arguments |= {"preset": preset, "finetune.fraction": fraction, "train.steps": steps}
    arguments |= {"seed": seed, "engine": engine, "workers": workers, "tracking": tracking}
    return call("finetune", FinetuneResult, arguments, flags)


def evaluate(
    network: Path | str = "runs/pretrain/checkpoint",
    frames: str = "synthetic:seed=1000,streets=6",
    *,
    protocol: str = "",
    out: Path | str | None = None,
    baselines: bool = True,
    seed: int = 0,
    engine: Engine = "ray",
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> EvaluateResult:
    """Score a pre-trained network by the unsupervised protocol (``cpcdr evaluate``).

    Args:
        network: checkpoint folder of `pretrain`.
        frames: ``KIND:PATH`` of held-out frames.
        protocol: such as ``camvid-11``; empty: the frames' own.
        out: folder of the report; None: beside the checkpoint.
        baselines: also score the untrained network and k-means on colour and position.
        seed: of the baselines.
        engine: ``ray``, or ``local``: in this process.
        tracking: whether the run is recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> street = "synthetic:seed=9,streets=2,frames=2,height=64,width=128"
    >>> scores = api.evaluate("runs/pretrain/checkpoint", street, engine="local")
    synthetic:...
    >>> scores.protocol, scores.frames, 0 < scores.miou < 1
    ('synthetic', 4, True)
    """
    arguments: dict[str, Any] = {
        "network": network,
        "frames": frames,
        "protocol": protocol,
        "out": out,
    }
    arguments |= {"baselines": baselines, "seed": seed, "engine": engine, "tracking": tracking}
    return call("evaluate", EvaluateResult, arguments, flags)


def segment(
    network: Path | str = "runs/demo/seed-0/pretrain/checkpoint",
    frames: str = "synthetic:seed=1000,streets=1,frames=60,height=192,width=384",
    *,
    out: Path | str = "runs/segmented.mp4",
    labels: bool = False,
    clusters: int = CLUSTERS_WITHOUT_LABELS,
    legend: bool = False,
    engine: Engine = "ray",
    workers: int = 0,
    flags: Flags | None = None,
) -> SegmentResult:
    """Run a trained network over video or images (``cpcdr segment``).

    Args:
        network: checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        frames: ``KIND:PATH`` of the video or images.
        out: ``NAME.mp4`` for one video, or a folder for one a sequence.
        labels: write label maps to the folder instead, 8-bit PNG files of ids.
        clusters: number of clusters of a network trained without labels.
        legend: draw the names of the colours below the pictures.
        engine: ``ray``, or ``local``: in this process.
        workers: actors; 0: one for each GPU, or for each core.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> street = "synthetic:seed=9,streets=1,frames=3,height=64,width=128"
    >>> api.segment("runs/finetune/checkpoint", street, out="seen.mp4", engine="local")
    SegmentResult
      out       seen.mp4
      frames    3
      rejected  0
      classes   flat, construction, object, nature, sky, human, vehicle
    """
    arguments: dict[str, Any] = {"network": network, "frames": frames, "out": out, "labels": labels}
    arguments |= {"clusters": clusters, "legend": legend, "engine": engine, "workers": workers}
    return call("segment", SegmentResult, arguments, flags)


def run(
    video: str = "synthetic:streets=6,frames=16,height=192,width=384",
    *,
    out: Path | str = "runs/run",
    hours: float = 1.0,
    depth: str = "",
    labels: str = "",
    clusters: int = 8,
    engine: Engine = "local",
    seed: int = 0,
    tracking: Tracking = "mlflow",
    flags: Flags | None = None,
) -> RunResult:
    """From a video to a segmented video and a report, in a given time (``cpcdr run``).

    Args:
        video: a file, a folder of videos or images, or ``KIND:PATH``.
        out: folder of all that is made.
        hours: for all of it.
        depth: source of depth, as for `prepare`.
        labels: ``KIND:PATH`` of labelled frames to score the clusters on; empty: no scores.
        clusters: into which the video is segmented.
        engine: ``local``: in this process, or ``ray``.
        seed: of weights, data order and every random draw.
        tracking: whether the runs are recorded in MLflow.
        flags: further options of the command.

    >>> from cpcdr import api
    >>> street = "synthetic:streets=3,frames=8,height=64,width=128"
    >>> made = api.run(street, hours=0.001, tracking="none")
    Measuring this machine...
    >>> made.video, made.report
    (PosixPath('runs/run/segmented.mp4'), PosixPath('runs/run/report.html'))
    """
    arguments: dict[str, Any] = {
        "": video,
        "out": out,
        "hours": hours,
        "depth": depth,
        "labels": labels,
    }
    arguments |= {"clusters": clusters, "engine": engine, "seed": seed, "tracking": tracking}
    return call("run", RunResult, arguments, flags)
