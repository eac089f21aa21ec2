"""Supervised fine-tuning as a command: train, then score on other labelled frames."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cpcdr.commands.evaluate import NETWORK
from cpcdr.evaluate.counting import count_all
from cpcdr.evaluate.figures import prediction_sheet, score_figures
from cpcdr.evaluate.matching import Match, scores
from cpcdr.evaluate.report import label_remarks
from cpcdr.evaluate.segmenters import check_size
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import (
    Frame,
    FrameOptions,
    FrameSource,
    Protocol,
    get_protocol,
    open_frames,
    with_protocol,
)
from cpcdr.frames.pick import spread_frames
from cpcdr.frames.protocols import evaluation_size
from cpcdr.model.segmentation import SMALLEST_SIDE
from cpcdr.runtime.config import config_hash, to_plain, write_atomic
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.run import Run, TrackingConfig, open_run
from cpcdr.train.engine import EngineConfig, train
from cpcdr.train.finetune_task import FinetuneSettings, FinetuneTask
from cpcdr.train.labelled import chosen_refs, require_labels
from cpcdr.train.loop import TrainConfig
from cpcdr.train.pretrain_task import SMALL
from cpcdr.visualize.pictures import Image, save_png


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a segmentation network on labelled frames, from any start, and score it.

    Attributes:
        frames: labelled frames to train on.
        evaluate: labelled frames of the same protocol to score on; empty: no score.
        protocol: cityscapes-19, cityscapes-27, kitti-19, camvid-11, synthetic; empty: the source's.
        out: run folder; run the same command again to continue.
        evaluate_size: height and width of evaluation; 0 0: those of the training crops. Protocol
            cityscapes-27 is of 320×320 pixels and takes no other.
        window: height and width of sliding windows in evaluation; 0 0: the whole frame at once.
        flip: average the scores of a frame and its mirror image.
        seed: of weights, order and augmentation.
    """

    frames: str = "synthetic:seed=0,streets=48,frames=4,height=96,width=192"
    evaluate: str = "synthetic:seed=1000,streets=64,frames=1,height=96,width=192"
    protocol: str = ""
    out: Path = Path("runs/finetune")
    evaluate_size: tuple[int, int] = (0, 0)
    window: tuple[int, int] = (0, 0)
    flip: bool = True
    seed: int = 0
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    options: FrameOptions = field(default_factory=FrameOptions)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=100, lr=0.01, final_lr=0.0, schedule="poly")
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_size(self.evaluate_size, "--evaluate-size", "those of the training crops")
        if any(side and side < SMALLEST_SIDE for side in self.window):
            raise InputError(
                f"--window {self.window[0]} {self.window[1]} is too small: give a height and a "
                f"width of at least {SMALLEST_SIDE} pixels, or 0 0 for the whole frame at once."
            )
        if self.seed < 0:
            raise InputError(f"--seed {self.seed} must be at least 0.")

    @staticmethod
    def presets() -> dict[str, FinetuneConfig]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        settings = FinetuneSettings(
            model=SMALL.model, size=(96, 192), scales=(0.75, 1.5), batch_size=8
        )
        train = TrainConfig(
            steps=100, optimizer="adamw", lr=1e-3, final_lr=0.0, schedule="poly", clip_norm=1.0
        )
        return {"small": FinetuneConfig(finetune=settings, train=train), "paper": FinetuneConfig()}


def finetune(config: FinetuneConfig) -> dict[str, Any]:
    """Train, or go on; score; record.

    Returns:
        ``checkpoint``, ``protocol``, ``miou``, ``accuracy``, ``per_class_iou`` (None for classes
        that are absent), ``labelled_frames``, ``rejected`` (why frames were left out of the
        training, by frame id) ...

    Raises:
        InputError: frames, labels or the start cannot be used.
    """
    start = time.perf_counter()
    source = _labelled(config.frames, config)
    scored = _scored(config, source.protocol) if config.evaluate else None
    task = FinetuneTask(replace(config.finetune, seed=config.seed), source)
    print(f"{source.spec}: {len(task.refs)} labelled frames, protocol {source.protocol}.")
    if task.rejected:
        first = next(iter(task.rejected.values()))
        print(f"{len(task.rejected)} labelled frames left out; the first says: {first}")
    settings = replace(config.train, seed=config.seed)
    digest = config_hash({"task": task.config(), "train": to_plain(settings)})
    key = config_hash([digest, str(config.out.absolute())])
    with open_run(config.tracking, "finetune", key, to_plain(config), config.out) as run:
        run.tags({"cpcdr.config_hash": digest, "cpcdr.init": config.finetune.init})
        run.tags({"cpcdr.protocol": source.protocol})
        checkpoint = train(task, settings, config.engine, config.out, run.metrics)
        for name in ("config.yaml", "model.safetensors"):
            run.artifact(checkpoint / name, "checkpoint")
        result: dict[str, Any] = {
            "checkpoint": str(checkpoint),
            "init": config.finetune.init,
            "labelled_frames": len(task.refs),
            "rejected": task.rejected,
            "protocol": source.protocol,
            "config_hash": digest,
            "run_id": run.run_id,
        }
        if scored is not None:
            result |= _score(config, checkpoint, scored, run)
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_atomic(config.out / "report.json", json.dumps(result, indent=2) + "\n")
        return result


def _labelled(spec: str, config: FinetuneConfig) -> FrameSource:
    """A source of labelled frames under the protocol that is asked for."""
    source = open_frames(spec, config.options)
    if config.protocol:
        source = with_protocol(source, config.protocol)
    chosen_refs(source, 1.0)  # says now that there are no labels
    return source


def _scored(config: FinetuneConfig, protocol: str) -> FrameSource:
    """The frames to score on, with everything said before the training that is wrong with them."""
    source = _labelled(config.evaluate, config)
    if source.protocol != protocol:
        raise InputError(
            f"{config.evaluate}: has labels of protocol {source.protocol}, but {config.frames} of "
            f"{protocol}; evaluate on labels of the protocol that is trained on."
        )
    _evaluation_size(config, get_protocol(protocol))
    require_labels(source)
    return source


def _evaluation_size(config: FinetuneConfig, protocol: Protocol) -> tuple[int, int]:
    asked, trained = config.evaluate_size, config.finetune.size
    return evaluation_size(protocol, asked, trained, "--evaluate-size")


def _score(
    config: FinetuneConfig, checkpoint: Path, source: FrameSource, run: Run
) -> dict[str, Any]:
    """Scores of the network on the frames of ``source``, with figures, as part of the result."""
    protocol = get_protocol(source.protocol)
    size = _evaluation_size(config, protocol)
    segmenter = ClassSegmenter(checkpoint, config.window, config.flip)
    engine = "local" if config.engine.engine == "local" else "ray"
    totals = count_all(engine, source, size, {NETWORK: segmenter}, len(protocol.classes))
    score = scores(totals[NETWORK])
    for remark in label_remarks(totals[NETWORK].sum(0), protocol, source.spec):
        print(remark)
    for figure, image in score_figures(totals[NETWORK], protocol).items():
        run.figure(figure, image)
    sheet = _predictions(segmenter, spread_frames(source, size, 5), protocol)
    run.figure("predictions", sheet)
    save_png(config.out / "predictions.png", sheet)
    run.metrics({"miou": score.miou, "accuracy": score.accuracy}, step=0)
    ious = zip(protocol.classes, score.per_class_iou.tolist(), strict=True)
    return {
        "miou": score.miou,
        "accuracy": score.accuracy,
        "per_class_iou": {k: None if math.isnan(v) else v for k, v in ious},
        "absent_classes": [protocol.classes[i] for i in score.absent],
        "evaluated_frames": int(totals["frames"]),
        "evaluate_size": list(size),
    }


def _predictions(segmenter: ClassSegmenter, frames: list[Frame], protocol: Protocol) -> Image:
    segmenter.load()
    found = [segmenter.segment(frame.image) for frame in frames]
    classes = len(protocol.classes)
    return prediction_sheet(
        frames, found, protocol, Match(np.arange(classes), classes, "supervised")
    )
