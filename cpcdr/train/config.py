"""How networks are trained: the optimisation, the engine, and each task."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from cpcdr.copy_paste.config import ColourConfig, CopyPasteConfig, ViewConfig
from cpcdr.depth.config import SMALL as SMALL_DEPTH
from cpcdr.depth.config import TINY, DepthConfig, StreetConfig
from cpcdr.frames.frame import FrameOptions
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.runtime.config import Engine
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

FLAT = tyro.conf.arg(prefix_name=False)  # --engine without a prefix


def _fields(config: Any, kind: type[Any]) -> dict[str, Any]:
    """What a configuration has of the fields of another kind."""
    return {f.name: getattr(config, f.name) for f in fields(kind)}


@dataclass(frozen=True)
class OptimiserConfig:
    """The optimiser and its arithmetic, whatever the length of the training.

    Attributes:
        optimizer: ``sgd`` has momentum 0.9.
        lr: peak learning rate.
        final_lr: learning rate at the end.
        schedule: how it gets there.
        warmup: fraction of all steps with a rising learning rate (the paper's 2 of 25 epochs).
        weight_decay: of weight matrices and kernels.
        clip_norm: largest gradient norm; 0 switches clipping off.
        accumulate: batches whose mean gradient makes one step, where memory holds no larger batch.
        precision: ``auto`` takes bf16 where GPU or CPU compute in it, else float32, and keeps it
            when a run is resumed on another device.
        channels_last: memory format of the network.
        compile: torch.compile what is trained, which takes minutes at first; ``auto``: on a GPU
            that trains alone, if it works.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    final_lr: float = 1e-5
    schedule: Literal["cosine", "poly"] = "cosine"
    warmup: float = 0.08
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    accumulate: int = 1
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: Literal["auto", "yes", "no"] = "no"

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise InputError("accumulate must be at least 1.")


@dataclass(frozen=True)
class TrainConfig(OptimiserConfig):
    """The optimisation, for every task.

    Attributes:
        epochs: passes over the data.
        steps: optimiser steps in all; 0 takes ``epochs``.
        log_every: steps between two lines of metrics.
        checkpoint_every: steps between two checkpoints; 0: once an epoch.
        patience: checkpoints without improvement on held-out frames after which training stops;
            0: never.
    """

    epochs: int = 25
    steps: int = 0
    log_every: int = 10
    checkpoint_every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.epochs, self.log_every) < 1 or min(self.steps, self.patience) < 0:
            raise InputError("epochs and log_every must be at least 1, steps and patience 0.")


@dataclass(frozen=True)
class EngineConfig:
    """Where the workers run.

    Attributes:
        engine: ``ray`` (Ray Train, DDP) or ``local`` (this process; imports no Ray).
        workers: DDP workers under Ray; 0: one for each GPU that Ray has, or may start where
            `ray up` made its cluster, two without GPUs.
        gpu: whether workers take a GPU; ``auto``: where there is one, or may be.
        cpus_per_worker: logical CPUs that a worker reserves.
        max_failures: failures that a run survives, not counting machines that were taken away with
            notice.
        storage_path: where Ray Train keeps its record of the run, which ``ray.train.Result`` reads:
            a folder or an address such as ``s3://bucket/ray``; empty: ``ray`` in ``out``.
        dashboard: start Ray's dashboard, for this machine and its user only.
    """

    engine: Annotated[Engine, FLAT] = "ray"
    workers: Annotated[int, FLAT] = 0
    gpu: Annotated[Literal["auto", "yes", "no"], FLAT] = "auto"
    cpus_per_worker: Annotated[float, FLAT] = 1.0
    max_failures: Annotated[int, FLAT] = 3
    storage_path: Annotated[str, FLAT] = ""
    dashboard: Annotated[bool, FLAT] = False


@dataclass(frozen=True)
class PretrainSettings:
    """What a pre-training learns by, whatever its data and its length.

    Attributes:
        frames_per_item: M, frames of a mosaic; 2M mixed images.
        items: mosaics a worker and step.
    """

    frames_per_item: int
    items: int
    model: ModelConfig
    loss: LossConfig
    copy_paste: CopyPasteConfig
    train: OptimiserConfig

    def config(self, data: Path, seed: int, steps: int, checkpoint_every: int) -> PretrainConfig:
        """A pre-training by these settings."""
        own = _fields(self.train, OptimiserConfig)
        train = TrainConfig(**own, steps=steps, checkpoint_every=checkpoint_every)
        return PretrainConfig(**{**vars(self), "train": train}, data=data, seed=seed)


_MILD = ColourConfig(
    jitter=(0.3, 0.3, 0.3, 0.1), jitter_probability=0.5, blur_probability=0.0, grey_probability=0.05
)
# Sized for minutes on two cores, where the paper's settings have hardly left ln K: sharper codes
# and milder colours make the few steps count.
SMALL_MODEL = ModelConfig(
    "resnet18", width=32, fpn_channels=64, head_channels=64, feature_dim=64, prototypes=200
)
_SMALL_LOSS = LossConfig(pixel_points=200, region_points=400, epsilon=0.015)
_SMALL_COPY_PASTE = CopyPasteConfig(colour=_MILD, view=ViewConfig(zoom=(1.0, 1.5), colour=_MILD))
_SMALL_TRAIN = TrainConfig(
    steps=160, optimizer="adamw", lr=3e-3, final_lr=1e-5, clip_norm=1.0, checkpoint_every=40
)


@dataclass(frozen=True)
class PretrainConfig:
    """Dense SwAV on a prepared dataset, with on-the-fly copy-paste of its regions.

    Attributes:
        data: dataset folder made by cpcdr prepare, or an address such as ``s3://bucket/dataset``.
        out: run folder; run the same command again to continue.
        frames_per_item: M, frames of a mosaic; 2M mixed images.
        items: mosaics a worker and step.
        seed: of weights, data order and every random draw.
    """

    essential: ClassVar[str] = (
        "data out seed items train.steps train.epochs model.backbone workers engine tracking"
    )
    data: Path = Path("runs/dataset")
    out: Path = Path("runs/pretrain")
    frames_per_item: int = 4
    items: int = 1
    seed: int = 0
    model: ModelConfig = SMALL_MODEL
    loss: LossConfig = _SMALL_LOSS
    copy_paste: CopyPasteConfig = _SMALL_COPY_PASTE
    train: TrainConfig = _SMALL_TRAIN
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @staticmethod
    def presets() -> dict[str, PretrainConfig]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        paper = PretrainConfig(
            frames_per_item=8,
            model=ModelConfig(),
            loss=LossConfig(),
            copy_paste=CopyPasteConfig(),
            train=TrainConfig(compile="auto"),
        )
        return {"small": PretrainConfig(), "paper": paper}

    def settings(self) -> PretrainSettings:
        """The settings that searches and studies vary."""
        train = OptimiserConfig(**_fields(self.train, OptimiserConfig))
        return PretrainSettings(**{**_fields(self, PretrainSettings), "train": train})


@dataclass(frozen=True)
class TrainDepthConfig:
    """Depth and pose networks, self-supervised on consecutive frames of video.

    Attributes:
        frames: ``KIND:PATH`` of video or frame sequences; several joined by commas.
        out: run folder; run the same command again to continue.
        seed: of weights, order and augmentation.
    """

    essential: ClassVar[str] = (
        "frames out seed depth.height depth.width train.steps train.epochs workers engine tracking"
    )
    frames: str = "synthetic:"
    out: Path = Path("runs/depth")
    seed: int = 0
    depth: DepthConfig = SMALL_DEPTH
    options: FrameOptions = field(default_factory=FrameOptions)
    train: TrainConfig = TrainConfig(
        steps=300, optimizer="adamw", lr=3e-3, checkpoint_every=30, patience=4
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @staticmethod
    def presets() -> dict[str, TrainDepthConfig]:
        """``small`` for a laptop's CPU (the default), ``scratch`` for one without a network to
        start from, ``paper`` for GPUs."""
        brief = TrainConfig(steps=400, optimizer="adamw", lr=3e-3, checkpoint_every=50)
        long = TrainConfig(epochs=20, optimizer="adamw", lr=1e-4, final_lr=1e-6)
        published = DepthConfig("scratch", height=192, width=640)
        return {
            "small": TrainDepthConfig(),
            "scratch": TrainDepthConfig(depth=TINY, train=brief),
            "paper": TrainDepthConfig(depth=published, train=long),
        }


_STREET_TRAIN = TrainConfig(
    steps=9000,
    optimizer="adamw",
    lr=2e-3,
    warmup=0.05,
    weight_decay=1e-2,
    clip_norm=1.0,
    precision="float32",
    checkpoint_every=200,
    log_every=20,
)


@dataclass(frozen=True)
class TrainStreetConfig:
    """The depth network of ``--depth street``, supervised on rendered streets.

    Attributes:
        out: run folder; run the same command again to continue.
        seed: of streets, weights, order and augmentation.
    """

    essential: ClassVar[str] = "out seed street.shots street.channels train.steps engine tracking"
    out: Path = Path("runs/street")
    seed: int = 0
    street: StreetConfig = field(default_factory=StreetConfig)
    train: TrainConfig = _STREET_TRAIN
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
