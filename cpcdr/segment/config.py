"""Configuration of inference and export."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS
from cpcdr.frames.frame import FrameOptions
from cpcdr.frames.stored import IMAGE_SUFFIXES
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.runtime.config import Engine
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

_MEDIA = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, ".gif")


@dataclass(frozen=True)
class SegmentConfig:
    """Run a trained network over video.

    Attributes:
        network: checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        frames: ``KIND:PATH`` of the video or images.
        out: ``NAME.mp4`` for one overlay video, or a folder for one per sequence.
        labels: write label maps to the folder instead: 8-bit PNG files of ids with a palette.
        clusters: number of clusters of a network trained without labels.
        legend: draw the names of the colours below the pictures of the video.
        opacity: of the class colours over the frame.
        fps: frames per second of the videos; None: as recorded, 15 if that is unknown.
        workers: actors; 0: one for each GPU, or for each core.
        engine: ``ray`` or ``local``.
    """

    network: str = "runs/demo/seed-0/pretrain/checkpoint"
    frames: str = "synthetic:seed=1000,streets=1,frames=60,height=192,width=384"
    out: Path = Path("runs/segmented.mp4")
    labels: bool = False
    clusters: int = CLUSTERS_WITHOUT_LABELS
    legend: bool = False
    opacity: float = 0.5
    fps: float | None = None
    workers: int = 0
    engine: Engine = "ray"
    options: FrameOptions = field(default_factory=FrameOptions)

    def __post_init__(self) -> None:
        fps = 1.0 if self.fps is None else self.fps
        if not 0 <= self.opacity <= 1 or not 0.01 <= fps <= 1000:
            raise InputError("--opacity must lie in 0..1 and --fps in 0.01..1000.")
        if self.workers < 0:
            raise InputError(f"--workers {self.workers} must not be negative; 0 chooses.")
        suffix = self.out.suffix.lower()
        if self.labels and suffix in _MEDIA:
            raise InputError(f"--out {self.out}: give a folder for the label maps.")
        if self.labels and self.legend:
            raise InputError("--legend is drawn into videos, and --labels writes none.")
        if suffix in _MEDIA and not self.one_video:
            raise InputError(
                f"--out {self.out}: {suffix} files are not written; give NAME.mp4 or a folder."
            )

    @property
    def one_video(self) -> bool:
        """Whether ``out`` is one file; folders may have any other name, such as ``seg-1.5``."""
        return self.out.suffix.lower() == ".mp4"


@dataclass(frozen=True)
class ExportConfig:
    """Export a checkpoint to ONNX and register it, or its backbone for other code.

    Attributes:
        network: checkpoint folder of cpcdr pretrain, probe or finetune, ``runs:/RUN_ID`` or
            ``models:/...``.
        what: the whole ``network``, or its ``backbone`` alone.
        format: of a backbone: for the code of ``timm`` or ``torchvision``, or ``safetensors``
            (``auto``) for ``--model.init`` of another training. A network is written as ONNX.
        out: the file; NAME.json beside a backbone says how its images are normalised.
        half: write ONNX with weights and computation in float16, half the size; images and scores
            stay in float32.
        clusters: number of clusters of a network trained without labels.
        register: name in MLflow's model registry; empty: not registered.
        alias: of the registered version, for ``models:/NAME@ALIAS``.
    """

    network: str = "runs/pretrain/checkpoint"
    out: Path = Path("runs/model.onnx")
    what: Literal["network", "backbone"] = "network"
    format: Literal["auto", "onnx", "safetensors", "timm", "torchvision"] = "auto"
    half: bool = False
    clusters: int = CLUSTERS_WITHOUT_LABELS
    register: str = ""
    alias: str = "champion"

    def __post_init__(self) -> None:
        onnx = self.what == "network"
        if self.format != "auto" and onnx != (self.format == "onnx"):
            formats = "onnx" if onnx else "safetensors, timm or torchvision"
            raise InputError(f"--format {self.format}: a {self.what} is written as {formats}.")
        if self.half and not onnx:
            raise InputError("--half is for ONNX: give --what network.")
        if self.register and not onnx:
            raise InputError("--register takes whole networks: give --what network.")
        # MLflow's own rules, and no '?' or '@', which are special in models:/NAME@ALIAS.
        if self.register and not re.fullmatch(r"\w[\w .-]*", self.register):
            raise InputError(
                f"--register '{self.register}' cannot be a model's name: take letters, digits, "
                "'_', '-', '.' and spaces."
            )
        reserved = re.fullmatch(r"(?i)latest|v\d+", self.alias)
        if reserved or not re.fullmatch(r"[\w-]{1,255}", self.alias):
            raise InputError(
                f"--alias '{self.alias}' cannot be an alias: take letters, digits, '_' and '-', "
                "and neither 'latest' nor a version such as v1."
            )


@dataclass(frozen=True)
class NameConfig:
    """Class names for a pre-trained network's prototypes, from a handful of labelled frames.

    Attributes:
        network: checkpoint folder written by cpcdr pretrain.
        frames: ``KIND:PATH`` of labelled frames; five are a start, fifty hardly better.
        data: a prepared dataset instead: choose the frames to label.
        out: the named checkpoint, or with ``data`` the folder of frames to label.
        protocol: of the labels; empty: the source's.
        suggest: frames to choose from ``data``.
        clusters: that are described and drawn with ``data``.
    """

    network: Path = Path("runs/pretrain/checkpoint")
    frames: str = "synthetic:seed=1000,streets=5,frames=1,height=96,width=192"
    data: Path | None = None
    out: Path = Path("runs/named")
    protocol: str = ""
    suggest: int = 20
    clusters: int = CLUSTERS_WITHOUT_LABELS
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if min(self.suggest, self.clusters) < 1:
            raise InputError("--suggest and --clusters must be at least 1.")
