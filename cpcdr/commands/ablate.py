"""The study as a command: what is compared on what, and what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpcdr.ablate.context import make_context_test, save_context_test
from cpcdr.ablate.datasets import source_of, with_finest_labels, with_regions
from cpcdr.ablate.labelled import load_frames, store_frames
from cpcdr.ablate.measure import Material
from cpcdr.ablate.outcome import conclude
from cpcdr.ablate.trials import StudyPlan, StudyTrial, run_trials
from cpcdr.ablate.variants import FACTORS, Variant, variants_of
from cpcdr.commands.demo import UNSEEN_STREETS
from cpcdr.commands.prepare import prepare
from cpcdr.dataset import read_manifest
from cpcdr.evaluate.clusters import METHODS
from cpcdr.frames import FrameOptions, FrameSource, get_protocol, open_frames, with_protocol
from cpcdr.frames.protocols import evaluation_size
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions import RegionConfig
from cpcdr.runtime.config import config_hash, read_yaml, to_plain, write_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.run import Run, TrackingConfig, open_run
from cpcdr.train.labelled import require_labels
from cpcdr.train.pretrain_task import SMALL, SMALL_REGIONS, PretrainConfig

_PROBE_FRAMES = 48


@dataclass(frozen=True)
class AblateConfig:
    """Pre-trainings under equal optimiser steps that differ in one factor each, over seeds.

    The folder ``out`` can be continued with more variants and seeds.

    Attributes:
        frames: ``KIND:PATH`` to pre-train on; empty: the synthetic street.
        depth: as in prepare.py, for your own frames.
        data: a prepared dataset instead of frames and depth.
        evaluate: labelled frames to score on, none of those pre-trained on; empty: streets that
            the training has not seen.
        protocol: of the scores, such as cityscapes-27; empty: that of the evaluation frames.
        size: height and width of the prepared frames.
        variants: some of full, no-copy-paste, slic, felzenszwalb, objects, pixel-only, region-only,
            or several joined by ``+``, such as no-copy-paste+slic.
        seeds: each of weights, data order and every draw together, the same for all variants.
        steps: optimiser steps of every pre-training, of one worker.
        concurrent: trials at the same time; they share the CPU threads, whose number changes sums
            in their last digits: repeat a study with the same.
        clustering: how prototypes become classes: average, ward, kmeans, spherical.
        cars: objects of the context test.
        scenes: scenes that each of them is pasted into.
        out: folder of datasets, trials, tables and figures.
        options: how the frames to pre-train on are read.
        evaluate_options: how the frames to score on are read.
        regions: thresholds of the depth regions.
        pretrain: what all pre-trainings share.
        tracking: where runs are recorded.
    """

    frames: str = ""
    depth: str = ""
    data: Path = Path()
    evaluate: str = ""
    protocol: str = ""
    size: tuple[int, int] = (96, 192)
    variants: tuple[str, ...] = tuple(FACTORS)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 160
    concurrent: int = 2
    clustering: str = METHODS[0]
    cars: int = 8
    scenes: int = 8
    out: Path = Path("runs/ablate")
    options: FrameOptions = field(default_factory=FrameOptions)
    evaluate_options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=lambda: SMALL_REGIONS)
    pretrain: PretrainConfig = field(default_factory=lambda: SMALL)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        variants_of(self.variants)
        if min(self.steps, self.concurrent) < 1:
            raise InputError("--steps and --concurrent must be at least 1.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError("--seeds needs one or more different numbers, 0 or larger.")
        if self.cars < 1 or self.scenes < 2:
            raise InputError("--cars must be at least 1, --scenes at least 2.")
        if self.clustering not in METHODS:
            raise InputError(f"--clustering '{self.clustering}': choose {', '.join(METHODS)}.")
        if not self.pretrain.copy_paste.enabled:
            raise InputError("--pretrain.copy-paste.enabled is a factor: leave it to --variants.")
        self._check_data()

    @staticmethod
    def presets() -> dict[str, AblateConfig]:
        """``small`` for a laptop's CPU (the default), ``paper`` for GPUs."""
        small = AblateConfig()
        large = replace(small, size=(384, 768), steps=2000)
        paper = replace(large, regions=RegionConfig(), pretrain=PretrainConfig())
        return {"small": small, "paper": paper}

    def _check_data(self) -> None:
        given = self.data != Path()
        if given and (self.frames or self.depth):
            raise InputError("--data is a prepared dataset: leave --frames and --depth out.")
        if self.frames and not self.depth:
            raise InputError(
                f"{self.frames}: needs --depth as well; train a network on it with "
                "experiments/train_depth.py and give --depth network:OUT/checkpoint."
            )
        if (self.frames or given) and not self.evaluate:
            raise InputError("--evaluate is missing: give labelled frames that are not trained on.")

    def preparation(self) -> PrepareConfig:
        """How the dataset of depth regions is made."""
        street = f"synthetic:seed=0,streets=48,frames=4,{self._shape}"
        return PrepareConfig(
            frames=self.frames or street,
            depth=self.depth or "ground-truth",
            out=self.out / "dataset",
            size=self.size,
            options=self.options,
            regions=self.regions,
            tracking=self.tracking,
        )

    def scored(self) -> FrameSource:
        """The frames that are scored on.

        Raises:
            InputError: they have no labels that can be read under the protocol.
        """
        unseen = f"synthetic:seed={UNSEEN_STREETS},streets=64,frames=1,{self._shape}"
        source = open_frames(self.evaluate or unseen, self.evaluate_options)
        if not source.protocol:
            raise InputError(
                f"{source.spec}: has no labels to score on; give labelled frames with --evaluate."
            )
        if self.protocol:
            source = with_protocol(source, self.protocol)
        require_labels(source)
        return source

    @property
    def _shape(self) -> str:
        return f"height={self.size[0]},width={self.size[1]}"

    def shared(self) -> dict[str, Any]:
        """What is the same in every trial; variants and seeds may be added to a study."""
        own = ("variants", "seeds", "concurrent", "out", "tracking")
        plain = {k: v for k, v in to_plain(self).items() if k not in own}
        unused = ("data", "out", "seed", "engine", "tracking")
        plain["pretrain"] = {k: v for k, v in plain["pretrain"].items() if k not in unused}
        if self.data != Path():
            plain["data"] = read_manifest(self.data)["hash"]
        return plain


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Run the study, or go on with it; tables and figures of all that is finished.

    Returns:
        ``protocol``, ``variants``: estimates of every metric with paired differences, by variant;
        ``seeds``, ``steps``, counts, paths, ``config_hash``, ``run_id``.

    Raises:
        InputError: frames, depth or labels cannot be used, ``out`` holds another study, or no
            trial finished.
    """
    start, config = time.perf_counter(), replace(config, out=config.out.absolute())
    variants, source = variants_of(config.variants), config.scored()
    _check_sources(config, variants, source)
    digest = _claim(config)
    key = config_hash([digest, str(config.out)])
    with (
        open_run(config.tracking, "ablate", key, to_plain(config), config.out) as run,
        ray_session(),
    ):
        run.tags({"cpcdr.protocol": source.protocol})
        plan = _plan(config, variants, source, run)
        from cpcdr.ablate.record import RecordStudy  # imports Ray

        record = RecordStudy(config.tracking, run.run_id, key, plan, source.protocol)
        record.start()
        try:
            errors = run_trials(plan, record)
        finally:
            record.stop()
        result = conclude(plan, digest, errors, run)
        return {**result, "seconds": round(time.perf_counter() - start, 1)}


def _check_sources(config: AblateConfig, variants: Sequence[Variant], scored: FrameSource) -> None:
    """Say before anything is made that labels are missing, or that the test is on the training."""
    own = config.data != Path()
    manifest = read_manifest(config.data) if own else {"config": to_plain(config.preparation())}
    pretrained = source_of(manifest)
    if any(variant.regions == "objects" for variant in variants):
        with_finest_labels(pretrained)
    known = {ref.path or ref.frame_id for ref in pretrained.refs()}
    common = sum((ref.path or ref.frame_id) in known for ref in scored.refs())
    if common:
        raise InputError(
            f"{common} frames of {scored.spec} are among those that are pre-trained on; keep them "
            "apart, such as with --options.window=:-50 and --evaluate-options.window=-40:."
        )


def _claim(config: AblateConfig) -> str:
    """Make the study's folder, or see that it holds this very study; the hash of what is shared."""
    digest, path = config_hash(config.shared()), config.out / "study.yaml"
    if path.exists() and read_yaml(path).get("hash") != digest:
        raise InputError(
            f"{config.out}: holds a study with other settings (see {path}); give another --out, "
            "or delete the folder. Only --variants, --seeds and --concurrent may change."
        )
    write_yaml(path, {"hash": digest, **config.shared()})
    return digest


def _plan(
    config: AblateConfig, variants: Sequence[Variant], source: FrameSource, run: Run
) -> StudyPlan:
    """Everything that the trials need, made where it is missing."""
    datasets = _datasets(config, variants, run)
    plan = StudyPlan(
        base=config.pretrain,
        steps=config.steps,
        clustering=config.clustering,
        datasets=datasets,
        material=_material(config, source, datasets["depth"]),
        trials=tuple(StudyTrial(variant, seed) for seed in config.seeds for variant in variants),
        out=config.out,
        concurrent=config.concurrent,
        scored_on=_in_words(config),
    )
    # Says now that there are too few frames for a mosaic, not in every trial.
    plan.settings(plan.trials[0]).task().steps_per_epoch(1)
    return plan


def _in_words(config: AblateConfig) -> str:
    window = config.evaluate_options.window
    return (config.evaluate or "unseen synthetic streets") + (f" [{window}]" if window else "")


def _datasets(config: AblateConfig, variants: Sequence[Variant], run: Run) -> dict[str, Path]:
    """The dataset folder of each kind of regions that a variant needs, made where it is missing."""
    base = config.data.absolute() if config.data != Path() else config.out / "dataset"
    kinds = {variant.regions for variant in variants} - {"depth"}
    if config.data == Path():
        prepare(replace(config.preparation(), tracking=replace(config.tracking, parent=run.run_id)))
    run.dataset(base, read_manifest(base)["hash"])
    folders = {kind: config.out / f"dataset-{kind}" for kind in sorted(kinds)}
    for kind, folder in folders.items():
        with_regions(base, folder, kind)
    return {"depth": base, **folders}


def _material(config: AblateConfig, source: FrameSource, data: Path) -> Material:
    """Evaluation frames, the probe's frames and the context test, made where they are missing."""
    manifest, folder = read_manifest(data), config.out / "material"
    prepared = (manifest["size"][0], manifest["size"][1])
    size = evaluation_size(get_protocol(source.protocol), (0, 0), prepared)
    store_frames(source, size, folder / "evaluation")
    pretrained, probe = with_labels_of(source, source_of(manifest)), None
    if pretrained is not None:
        probe = folder / "probe"
        store_frames(pretrained, size, probe, _PROBE_FRAMES)
    context = folder / "context.npz"
    if not context.exists():
        test = make_context_test(load_frames(folder / "evaluation"), config.cars, config.scenes)
        if test is None:
            print(f"{source.spec}: has no car that can be pasted; there is no context test.")
        else:
            save_context_test(test, context)
    return Material(folder / "evaluation", probe, context)


def with_labels_of(scored: FrameSource, pretrained: FrameSource) -> FrameSource | None:
    """The frames to pre-train on under the protocol of the scores; None where that cannot be."""
    if not pretrained.protocol:
        return None
    same = get_protocol(pretrained.protocol).label_ids == get_protocol(scored.protocol).label_ids
    return with_protocol(pretrained, scored.protocol) if same else None
