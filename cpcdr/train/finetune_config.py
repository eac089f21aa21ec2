"""Configuration of fine-tuning: which labels, from which start, and how the result is scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from cpcdr.frames.frame import FrameOptions
from cpcdr.model.config import SMALLEST_SIDE, ModelConfig, check_size
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import FLAT, SMALL_MODEL, EngineConfig, TrainConfig

_NO_FLAG = tyro.conf.Suppress[tyro.conf.Fixed[int]]
_NO_TEXT = tyro.conf.Suppress[tyro.conf.Fixed[str]]
_NO_FRACTION = tyro.conf.Suppress[tyro.conf.Fixed[float]]


@dataclass(frozen=True)
class FinetuneModelConfig(ModelConfig):
    """Sizes of a network to fine-tune.

    Projector and prototypes belong to pre-training. They are part of every checkpoint, but no
    labels reach them, so that they have no flags. What it starts from is ``--network``, and it ends
    with what it has learned.
    """

    feature_dim: _NO_FLAG = 128
    prototypes: _NO_FLAG = 1000
    init: _NO_TEXT = ""
    interpolate: _NO_FRACTION = 1.0


@dataclass(frozen=True)
class FinetuneSettings:
    """What is trained on which labels.

    Attributes:
        network: what to start from: ``scratch``; a checkpoint of cpcdr pretrain, as its folder,
            ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``; or weights for the backbone, as a file of
            safetensors or ``timm``, which downloads those of a ``timm:`` backbone.
        transfer: what is taken of a checkpoint: ``backbone``, under a new pyramid and head as is
            usual in the field, or the whole ``network``. A head that has learned to tell
            prototypes apart holds a short fine-tuning back.
        model: sizes of the network where ``network`` does not bring them, and how its backbone
            is trained.
        fraction: of the labelled frames that is used, 1/30 to 1; a smaller subset is part of
            every larger one.
        size: height and width of the training crops, or WIDTHxHEIGHT; 0 0: those of the frames
            that ``network`` was trained on, or of another start, such as show all of a frame.
        scales: range of random magnification of the frames before the crop.
        batch_size: crops a worker and step.
        balanced: weigh classes by 1 / log(1.02 + frequency) (Paszke et al. 2016).
        jitter: fraction of the crops with changed colours.
        head_lr: learning rate of the classifier relative to that of the network.
        cache_mib: memory for decoded frames.
    """

    network: Annotated[str, FLAT] = "scratch"
    transfer: Literal["backbone", "network"] = "backbone"
    model: FinetuneModelConfig = field(default_factory=FinetuneModelConfig)
    fraction: float = 1.0
    size: tuple[int, int] = (384, 768)
    scales: tuple[float, float] = (0.5, 2.0)
    batch_size: int = 8
    balanced: bool = False
    jitter: float = 0.5
    head_lr: float = 10.0
    cache_mib: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"--finetune.fraction {self.fraction} must be above 0 and at most 1.")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise InputError("--finetune.scales must be two positive numbers, the smaller first.")
        check_size(self.size, "--finetune.size", "that of the start")
        if self.batch_size < 1:
            raise InputError(f"--finetune.batch-size {self.batch_size} must be at least 1.")
        if self.batch_size == 1 and max(self.size) == SMALLEST_SIDE:
            raise InputError(
                "--finetune.batch-size 1 with the smallest --finetune.size leaves batch "
                "normalisation a single value: make either larger."
            )
        if not 0 <= self.jitter <= 1:
            raise InputError(f"--finetune.jitter {self.jitter} is a fraction: give 0 to 1.")
        if not self.head_lr > 0 or self.cache_mib < 0:
            raise InputError("--finetune.head-lr must be above 0, --finetune.cache-mib at least 0.")


_SMALL_FINETUNE = FinetuneSettings(
    model=FinetuneModelConfig(**vars(SMALL_MODEL)),
    size=(0, 0),
    scales=(0.75, 1.5),
    batch_size=8,
)
_SMALL_TRAIN = TrainConfig(
    steps=100, optimizer="adamw", lr=1e-3, final_lr=0.0, schedule="poly", clip_norm=1.0
)


@dataclass(frozen=True)
class FinetuneConfig:
    """Train a segmentation network on labelled frames, from any start, and score it.

    Attributes:
        frames: labelled frames to train on.
        evaluate: labelled frames of the same protocol to score on; empty: no score.
        protocol: cityscapes-19, cityscapes-27, kitti-19, camvid-11, idd-lite-7, synthetic; empty:
            the source's.
        out: run folder; run the same command again to continue.
        evaluate_size: height and width of evaluation, or WIDTHxHEIGHT; 0 0: whole frames at the
            scale of the training. Protocol cityscapes-27 is of 320×320 pixels and takes no other.
        window: height and width of sliding windows in evaluation; 0 0: the whole frame at once.
        flip: average the scores of a frame and its mirror image.
        seed: of weights, order and augmentation.
    """

    essential: ClassVar[str] = (
        "network frames evaluate out finetune.fraction finetune.size seed train.steps engine "
        "tracking"
    )
    frames: str = "synthetic:seed=0,streets=48,frames=4,height=96,width=192"
    evaluate: str = "synthetic:seed=1000,streets=64,frames=1,height=96,width=192"
    protocol: str = ""
    out: Path = Path("runs/finetune")
    evaluate_size: tuple[int, int] = (0, 0)
    window: tuple[int, int] = (0, 0)
    flip: bool = True
    seed: int = 0
    finetune: FinetuneSettings = _SMALL_FINETUNE
    options: FrameOptions = field(default_factory=FrameOptions)
    train: TrainConfig = _SMALL_TRAIN
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_size(self.evaluate_size, "--evaluate-size", "whole frames")
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
        train = TrainConfig(epochs=100, lr=0.01, final_lr=0.0, schedule="poly")
        paper = FinetuneConfig(finetune=FinetuneSettings(), train=train)
        return {"small": FinetuneConfig(), "paper": paper}
