"""Configuration of the evaluation of networks, probes, depth and regions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cpcdr.evaluate.clusters import Clustering
from cpcdr.frames.frame import FrameOptions
from cpcdr.model.config import check_size
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import Engine
from cpcdr.runtime.tracking.config import TrackingConfig

UNSEEN_STREETS = 1000
"""Offset of the seed of held-out synthetic streets."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a checkpoint on labelled frames, or report its cluster usage without labels.

    Attributes:
        network: checkpoint folder written by cpcdr pretrain, ``OUT/checkpoint``.
        frames: ``KIND:PATH`` of held-out frames.
        train_frames: ``KIND:PATH`` of labelled frames that are not scored on: k-means on pixels,
            linear probes and prototypes named by a few labelled frames are fitted on them.
        protocol: cityscapes-19, cityscapes-27, kitti-19, camvid-11, idd-lite-7, synthetic; empty:
            the source's.
        size: height and width of evaluation, or WIDTHxHEIGHT; 0 0: whole frames at the
            scale of the training. Protocol cityscapes-27 requires 320×320.
        clustering: of the prototypes, for the full report: average, ward, kmeans or spherical;
            the mIoU is reported for all four.
        out: folder for report.json and figures; empty: ``evaluation`` beside the checkpoint.
        engine: ``ray`` or ``local``.
        baselines: also score the untrained network and colour k-means.
        seed: of the colour baseline and of k-means clusterings.
    """

    network: Path = Path("runs/pretrain/checkpoint")
    frames: str = "synthetic:seed=1000,streets=6"
    train_frames: str = ""
    protocol: str = ""
    size: tuple[int, int] = (0, 0)
    clustering: Clustering = "average"
    out: Path | None = None
    engine: Engine = "ray"
    baselines: bool = True
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_size(self.size)

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        return self.network.parent / "evaluation" if self.out is None else self.out


@dataclass(frozen=True)
class ProbeConfig:
    """Probe the frozen features of a pre-trained network and of the untrained network.

    Attributes:
        network: checkpoint folder written by cpcdr pretrain.
        frames: labelled frames to fit the probes on.
        evaluate: labelled frames of the same protocol to score them on.
        size: height and width, or WIDTHxHEIGHT; 0 0: whole frames at the scale of the training.
        out: folder for probes.json and ``probe``, the linear probe as a checkpoint for cpcdr
            segment; empty: beside the checkpoint.
        seed: of pixel sampling and SGD.
    """

    network: Path = Path("runs/demo/seed-0/pretrain/checkpoint")
    frames: str = "synthetic:seed=0,streets=48,frames=1,height=96,width=192"
    evaluate: str = "synthetic:seed=1000,streets=32,frames=1,height=96,width=192"
    size: tuple[int, int] = (0, 0)
    out: Path | None = None
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        check_size(self.size)


@dataclass(frozen=True)
class EvaluateDepthConfig:
    """Evaluate depth against ground truth, its plausibility, and a network's motion and photometry.

    Attributes:
        depth: the evaluated source, as for prepare.
        frames: ``KIND:PATH`` of held-out frames.
        truth: ``ground-truth``, ``velodyne:`` (KITTI raw) or ``precomputed:ROOT`` (such as KITTI's
            depth PNGs); empty: only plausibility, and a network's photometry and motion on video.
        baseline: frames with the same kind of truth whose mean disparity map is the baseline;
            empty: the evaluated frames, the strongest such baseline.
        size: height and width of the frames, or WIDTHxHEIGHT; 0 0 keeps their own.
        crop: ``none``, or ``eigen``: the part of a KITTI image that published results evaluate.
        max_depth: largest evaluated depth, in metres.
        out: folder for report.json and figures.
    """

    depth: str = "network:runs/depth/checkpoint"
    frames: str = "synthetic:seed=1000,streets=6,frames=8,height=96,width=192"
    truth: str = "ground-truth"
    baseline: str = ""
    size: tuple[int, int] = (0, 0)
    crop: Literal["none", "eigen"] = "none"
    max_depth: float = 80.0
    out: Path = Path("runs/depth-evaluation")
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True)
class EvaluateRegionsConfig:
    """Evaluate regions, against labels if the frames have them.

    Attributes:
        frames: ``KIND:PATH``.
        depth: as in cpcdr prepare.
        size: height and width of the frames, or WIDTHxHEIGHT; 0 0 keeps their own.
        alternatives: also evaluate SLIC, Felzenszwalb and depth components.
        out: folder for report.json and the figure.
    """

    frames: str = "synthetic:seed=1000,streets=8,frames=2,height=192,width=384"
    depth: str = ""
    size: tuple[int, int] = (0, 0)
    alternatives: bool = True
    out: Path = Path("runs/regions")
    options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=RegionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
