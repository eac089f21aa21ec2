"""Supervised fine-tuning as a command: train, then score on other labelled frames."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cpcdr.config import config_hash, to_plain, write_atomic
from cpcdr.errors import InputError
from cpcdr.evaluate.driver import NETWORK, count_all, spread_frames
from cpcdr.evaluate.figures import prediction_sheet, score_figures
from cpcdr.evaluate.matching import Match, scores
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import FrameOptions, get_protocol, open_frames
from cpcdr.tracking import Run, TrackingConfig, open_run
from cpcdr.train.engine import EngineConfig, train
from cpcdr.train.finetune_task import FinetuneSettings, FinetuneTask
from cpcdr.train.loop import TrainConfig
from cpcdr.train.pretrain import SMALL
from cpcdr.visualize import save_png


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a segmentation network on labelled frames, from any start, and score it.

    Attributes:
        frames: labelled frames to train on.
        evaluate: labelled frames of the same protocol to score on; empty: no score.
        out: run folder; run the same command again to continue.
        evaluate_size: height and width of evaluation; 0 0: those of the training crops.
        window: height and width of sliding windows in evaluation; 0 0: the whole frame at once.
        flip: average the scores of a frame and its mirror image.
        seed: of weights, order and augmentation.
    """

    frames: str = "synthetic:seed=0,streets=48,frames=4,height=96,width=192"
    evaluate: str = "synthetic:seed=1000,streets=64,frames=1,height=96,width=192"
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
        that are absent), ``labelled_frames``, ``steps`` ...

    Raises:
        InputError: frames, labels or the start cannot be used.
    """
    start = time.perf_counter()
    source = open_frames(config.frames, config.options)
    task = FinetuneTask(replace(config.finetune, seed=config.seed), source)
    print(f"{source.spec}: {len(task.refs)} labelled frames, protocol {source.protocol}.")
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
            "protocol": source.protocol,
            "config_hash": digest,
            "run_id": run.run_id,
        }
        if config.evaluate:
            result |= _score(config, checkpoint, source.protocol, run)
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_atomic(config.out / "report.json", json.dumps(result, indent=2) + "\n")
        return result


def _score(config: FinetuneConfig, checkpoint: Path, name: str, run: Run) -> dict[str, Any]:
    source, protocol = open_frames(config.evaluate, config.options), get_protocol(name)
    if source.protocol != name:
        raise InputError(
            f"{config.evaluate}: has labels of protocol '{source.protocol or 'none'}', but the "
            f"network was trained on {name}; evaluate on labels of that protocol."
        )
    size = config.evaluate_size if min(config.evaluate_size) > 0 else config.finetune.size
    segmenter = ClassSegmenter(checkpoint, config.window, config.flip)
    engine = "local" if config.engine.engine == "local" else "ray"
    classes = len(protocol.classes)
    totals = count_all(engine, source, size, {NETWORK: segmenter}, classes)
    score = scores(totals[NETWORK])
    for figure, image in score_figures(totals[NETWORK], protocol).items():
        run.figure(figure, image)
    frames = spread_frames(source, size, 5)
    segmenter.load()
    found = [segmenter.segment(frame.image) for frame in frames]
    itself = Match(np.arange(classes), classes, "supervised")
    sheet = prediction_sheet(frames, found, protocol, itself)
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
    }
