"""The configurations of commands that belong to no single stage."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from cpcdr.evaluate.config import UNSEEN_STREETS, EvaluateConfig
from cpcdr.frames.frame import FrameOptions
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import Engine
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that is made of a video, in a given time.

    Attributes:
        video: a file, a folder of videos or images, or ``KIND:PATH`` as in cpcdr prepare.
        out: folder of the dataset, the network, segmented.mp4 and report.html; run the same
            command again to continue.
        hours: for all of it; the training is as long as the machine's speed leaves time for.
        depth: as in cpcdr prepare; empty: the network in this package.
        labels: ``KIND:PATH`` of labelled frames to score the clusters on; empty: no scores.
        clusters: into which the video is segmented.
        engine: ``local``, or ``ray``.
        seed: of weights, data order and every random draw.
        allow_poor_depth: continue even if the depth check fails.
        options: how the video is read.
    """

    essential: ClassVar[str] = "out hours depth labels clusters engine tracking options.fov"
    video: tyro.conf.Positional[str] = "synthetic:streets=6,frames=16,height=192,width=384"
    out: Path = Path("runs/run")
    hours: float = 1.0
    depth: str = ""
    labels: str = ""
    clusters: int = 8
    engine: Engine = "local"
    seed: int = 0
    allow_poor_depth: bool = False
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if not 0 < self.hours < 10_000:
            raise InputError(f"--hours {self.hours:g} must be positive, and below 10000.")


@dataclass(frozen=True)
class DemoConfig:
    """The whole chain on the synthetic street, or on your own frames.

    Attributes:
        frames: ``KIND:PATH``; empty: the synthetic street.
        depth: as in cpcdr prepare.
        evaluate: frames to score on; empty: held-out streets, or, for your
            own frames, those frames themselves.
        size: height and width of the prepared frames, or WIDTHxHEIGHT.
        steps: optimiser steps of the pre-training.
        out: folder of dataset, checkpoint, report and figures.
        seed: of streets, weights, data order and every random draw.
        options: how your frames are read.
        regions: thresholds of the grouping.
    """

    frames: str = ""
    depth: str = ""
    evaluate: str = ""
    size: tuple[int, int] = (96, 192)
    steps: int = PretrainConfig().train.steps
    out: Path = Path("runs/demo")
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=RegionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def stages(self) -> tuple[PrepareConfig, PretrainConfig, EvaluateConfig]:
        """The configurations of prepare, pretrain and evaluate."""
        shape = f"height={self.size[0]},width={self.size[1]}"
        street = f"synthetic:seed={self.seed},streets=48,frames=4,{shape}"
        unseen = f"synthetic:seed={self.seed + UNSEEN_STREETS},streets=64,frames=1,{shape}"
        out = self.out / (f"seed-{self.seed}" if not self.frames else "own")
        preparation = PrepareConfig(
            frames=self.frames or street,
            depth=self.depth,
            out=out / "dataset",
            size=self.size,
            options=self.options,
            regions=self.regions,
            tracking=self.tracking,
        )
        training = PretrainConfig(
            data=out / "dataset",
            out=out / "pretrain",
            seed=self.seed,
            train=replace(PretrainConfig().train, steps=self.steps),
            tracking=self.tracking,
        )
        evaluation = EvaluateConfig(
            network=out / "pretrain" / "checkpoint",
            frames=self.evaluate or self.frames or unseen,
            options=self.options if self.frames else FrameOptions(),
            out=out / "evaluation",
            seed=self.seed,
            tracking=self.tracking,
        )
        return preparation, training, evaluation


Benchmark = Literal[
    "regions",
    "prepare",
    "depth",
    "street",
    "depth-step",
    "copy-paste",
    "loss",
    "step",
    "ingest",
    "tune",
    "scale",
    "decode",
]


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to time: the name comes first on the command line.

    Attributes:
        name: the part that is timed.
        repeats: timed repetitions after one warm-up; the median is reported.
        threads: CPU threads.
        workers: processes (prepare).
        frames: frames that are prepared (prepare, scale); prepare also measures memory at a fifth
            and at four times as many.
        device: where it runs (depth, depth-step, copy-paste, loss, step and ingest).
        compile: as ``--train.compile`` does (depth-step and step); the floor stays as it is.
        preset: sizes (depth, depth-step, loss, step and ingest).
        count: kernels and bytes of a GPU's step by part and the time they would take, without a
            GPU; with --device cuda beside the time they take (step).
        bandwidth: of the counted GPU's memory, in GB/s.
        launch: microseconds that a kernel takes at least.
        video: a recording to be decoded besides (decode).
    """

    name: tyro.conf.Positional[Benchmark] = "copy-paste"
    repeats: int = 5
    threads: int = 1
    workers: int = 2
    frames: int = 1000
    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False
    preset: Literal["small", "paper"] = "small"
    count: bool = False
    bandwidth: float = 3000.0
    launch: float = 5.0
    video: Path | None = None
