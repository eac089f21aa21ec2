"""What a search searches."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS
from cpcdr.frames.frame import FrameOptions
from cpcdr.runtime.config import without
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig, PretrainSettings

STREET = "synthetic:seed=2000,streets=16,frames=6,height=96,width=192"
HELD_OUT = "synthetic:seed=3000,streets=32,frames=1,height=96,width=192"
UNSEEN = "synthetic:seed=4000,streets=32,frames=1,height=96,width=192"


@dataclass(frozen=True)
class SearchConfig:
    """What every search needs.

    Attributes:
        data: a prepared dataset; empty: one of the synthetic street is made.
        evaluate: frames that score a trial, not those of ``data``; without labels the score is
            ``label_free``.
        test: frames that no trial is scored on: winner and default configuration are compared on
            them; empty: unseen synthetic streets where ``evaluate`` is not given either, else none.
        space: a YAML file of ranges, ``NAME: {uniform|loguniform|int: [low, high]}``,
            ``NAME: {choice: [...]}`` or ``NAME: value``; empty: the default space.
        trials: how many settings to try, the default configuration among them; more may be asked
            for later.
        concurrent: trials at the same time; they share the CPU threads, whose number changes sums
            in their last digits: repeat a search with the same.
        steps: optimiser steps of a full trial.
        objective: ``class_information`` (what prototypes tell about classes), ``miou``,
            ``label_free``, or ``auto``: class information where there are labels.
        repeats: seeds that winner and default are compared over, each a full training, where there
            are test frames; 0: none.
        out: folder of the search; run the same command again to continue.
        seed: of the search and of every trial.
        gpus_per_trial: GPUs of a trial, also a part of one; -1 divides the available GPUs.
        frames: most frames of ``evaluate`` (and of ``test``) that are scored.
        clusters: clusters of prototypes for the scores that need no labels.
        dashboard: start Ray's dashboard, for this machine and its user only.
        options: how frames of ``evaluate`` and ``test`` are read.
        pretrain: the training that parameters change.
    """

    data: Path | None = None
    evaluate: str = HELD_OUT
    test: str = ""
    space: Path | None = None
    trials: int = 12
    concurrent: int = 2
    steps: int = 75
    objective: Literal["auto", "class_information", "miou", "label_free"] = "auto"
    repeats: int = 3
    out: Path = Path("runs/tune")
    seed: int = 0
    gpus_per_trial: float = -1.0
    frames: int = 64
    clusters: int = CLUSTERS_WITHOUT_LABELS
    dashboard: bool = False
    options: FrameOptions = field(default_factory=FrameOptions)
    pretrain: PretrainSettings = field(default_factory=lambda: PretrainConfig().settings())
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if min(self.trials, self.concurrent, self.frames) < 1 or self.steps < 3:
            raise InputError(
                "--trials, --concurrent and --frames must be at least 1, --steps at least 3."
            )
        if self.clusters < 2 or self.repeats < 0:
            raise InputError("--clusters must be at least 2, --repeats at least 0.")

    def test_frames(self) -> str:
        """The spec of the test frames; "" for none."""
        return self.test or (UNSEEN if self.evaluate == HELD_OUT else "")

    def identity(self) -> dict[str, Any]:
        """The settings that must not change when a search resumes."""
        machine = ("concurrent", "gpus_per_trial", "dashboard", "tracking")
        return without(self, "trials", "test", "repeats", *machine)


@dataclass(frozen=True)
class TuneConfig(SearchConfig):
    """Find the regions, the number of prototypes and the temperatures that segment best.

    Attributes:
        region_sets: region settings that the cheap stage tries without any training; 0 leaves the
            stage out.
        region_frames: frames that this stage scores.
        region_keep: fraction of these settings, the best, whose bounds the trials search within.
    """

    region_sets: int = 300
    region_frames: int = 8
    region_keep: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.region_sets < 0 or self.region_frames < 1 or not 0 < self.region_keep <= 1:
            raise InputError(
                "--region-sets must be at least 0, --region-frames at least 1, --region-keep in "
                "0..1."
            )


@dataclass(frozen=True)
class TunePretrainConfig(SearchConfig):
    """Find the learning rate, prototypes, loss weights and copy counts that segment best.

    Attributes:
        scheduler: ``asha`` proposes by TPE and stops weak trials early; ``pbt`` trains a population
            in which the worse resume from the better ones' checkpoints with other settings.
    """

    out: Path = Path("runs/tune-pretrain")
    scheduler: Literal["asha", "pbt"] = "asha"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheduler == "pbt" and self.trials < 3:
            raise InputError("--scheduler pbt needs --trials 3: the default and a population.")
