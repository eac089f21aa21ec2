"""What a study compares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from cpcdr.ablate.variants import FACTORS, variants_of
from cpcdr.dataset import read_manifest
from cpcdr.evaluate.clusters import Clustering
from cpcdr.frames.frame import FrameOptions
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import without
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig, PretrainSettings


@dataclass(frozen=True)
class AblateConfig:
    """Pre-trainings under equal optimiser steps that differ in one factor each, over seeds.

    The folder ``out`` can be continued with more variants and seeds.

    Attributes:
        frames: ``KIND:PATH`` to pre-train on; empty: the synthetic street.
        depth: as in cpcdr prepare, for your own frames.
        data: a prepared dataset instead of frames and depth.
        evaluate: labelled frames to score on, none of those pre-trained on; empty: streets that
            the training has not seen.
        protocol: of the scores, such as cityscapes-27; empty: that of the evaluation frames.
        size: height and width of the prepared frames, or WIDTHxHEIGHT.
        variants: some of full, no-copy-paste, slic, felzenszwalb, objects, pixel-only, region-only,
            paper-colours, any-height, large-zoom, half-unmixed, clean-norm, separate-norm,
            group-norm, replicate-padding, or several joined by ``+``, such as no-copy-paste+slic.
        seeds: each of weights, data order and every draw together, the same for all variants.
        steps: optimiser steps of every pre-training, of one worker.
        concurrent: trials at the same time; they share the CPU threads, whose number changes sums
            in their last digits: repeat a study with the same.
        clustering: how prototypes become classes: average, ward, kmeans, spherical.
        cars: objects of the context test.
        scenes: scenes that each of them is pasted into.
        out: folder of datasets, trials, tables and figures.
        dashboard: start Ray's dashboard, for this machine and its user only.
        options: how the frames to pre-train on are read.
        evaluate_options: how the frames to score on are read.
        regions: thresholds of the depth regions.
        pretrain: what all pre-trainings share.
    """

    essential: ClassVar[str] = "frames depth data evaluate size variants seeds steps out tracking"
    frames: str = ""
    depth: str = ""
    data: Path | None = None
    evaluate: str = ""
    protocol: str = ""
    size: tuple[int, int] = (96, 192)
    variants: tuple[str, ...] = tuple(FACTORS)[:7]
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 160
    concurrent: int = 2
    clustering: Clustering = "average"
    cars: int = 8
    scenes: int = 8
    out: Path = Path("runs/ablate")
    dashboard: bool = False
    options: FrameOptions = field(default_factory=FrameOptions)
    evaluate_options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=RegionConfig)
    pretrain: PretrainSettings = field(default_factory=lambda: PretrainConfig().settings())
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        variants_of(self.variants)
        if min(self.steps, self.concurrent) < 1:
            raise InputError("--steps and --concurrent must be at least 1.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError("--seeds needs one or more different numbers, 0 or larger.")
        if self.cars < 1 or self.scenes < 2:
            raise InputError("--cars must be at least 1, --scenes at least 2.")
        if not any(self.pretrain.copy_paste.pastes):
            raise InputError("--pretrain.copy-paste.pastes 0 is a factor: leave it to --variants.")
        self._check_data()

    @staticmethod
    def presets() -> dict[str, AblateConfig]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        small = AblateConfig()
        large = replace(small, size=(384, 768), steps=2000)
        paper = replace(large, pretrain=PretrainConfig.presets()["paper"].settings())
        return {"small": small, "paper": paper}

    def _check_data(self) -> None:
        given = self.data is not None
        if given and (self.frames or self.depth):
            raise InputError("--data is a prepared dataset: leave --frames and --depth out.")
        if (self.frames or given) and not self.evaluate:
            raise InputError("--evaluate is missing: give labelled frames that are not trained on.")

    def preparation(self) -> PrepareConfig:
        """How the dataset of depth regions is made."""
        street = f"synthetic:seed=0,streets=48,frames=4,{self.shape}"
        return PrepareConfig(
            frames=self.frames or street,
            depth=self.depth,
            out=self.out / "dataset",
            size=self.size,
            options=self.options,
            regions=self.regions,
            tracking=self.tracking,
        )

    @property
    def shape(self) -> str:
        """The size, as the synthetic street takes it."""
        return f"height={self.size[0]},width={self.size[1]}"

    @property
    def scored_on(self) -> str:
        """The evaluation frames in words."""
        window = self.evaluate_options.window
        return (self.evaluate or "unseen synthetic streets") + (f" [{window}]" if window else "")

    def shared(self) -> dict[str, Any]:
        """The settings that all trials share; variants and seeds may be added to a study."""
        plain = without(self, "variants", "seeds", "concurrent", "out", "dashboard", "tracking")
        if self.data is not None:
            plain["data"] = read_manifest(self.data)["hash"]
        return plain
