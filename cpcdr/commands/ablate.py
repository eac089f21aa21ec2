"""Equal pre-trainings that differ in one factor, over seeds, with intervals.

Does copy-pasting depth regions help? Without arguments: the synthetic street, seven variants, three
seeds. Run it again to resume, also with more variants or seeds. Examples:
  cpcdr ablate --variants full no-copy-paste slic --seeds 0 1 2
  cpcdr ablate --data runs/camvid --evaluate camvid:CamVid/val --out runs/study
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.context import make_context_test, save_context_test
from cpcdr.ablate.datasets import with_finest_labels, with_regions
from cpcdr.ablate.labelled import load_frames, store_frames
from cpcdr.ablate.measure import Material
from cpcdr.ablate.outcome import conclude
from cpcdr.ablate.record import StudyRecords
from cpcdr.ablate.trials import StudyPlan, StudyTrial, run_study
from cpcdr.ablate.variants import Variant, variants_of
from cpcdr.commands.inputs import record_frames, record_prepared, short_name
from cpcdr.commands.prepare import prepare
from cpcdr.dataset import read_manifest
from cpcdr.evaluate.config import UNSEEN_STREETS
from cpcdr.frames import FrameSource, get_protocol, open_frames, with_protocol
from cpcdr.frames.digest import frames_digest
from cpcdr.frames.pick import common_frames
from cpcdr.frames.protocols import evaluation_size
from cpcdr.prepare.origin import source_of
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.run_folder import claim
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.train.labelled import require_labels
from cpcdr.train.pretrain_task import identity_of, task_of

_PROBE_FRAMES = 200


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Run or resume the study; tables and figures of all that is finished.

    Returns:
        ``protocol``, ``variants``: estimates of every metric with paired differences, by variant;
        ``seeds``, ``steps``, counts, paths, ``config_hash``, ``run_id``.

    Raises:
        InputError: frames, depth or labels cannot be used, ``out`` holds another study, or no
            trial finished.
    """
    start, config = time.perf_counter(), replace(config, out=config.out.absolute())
    variants, source = variants_of(config.variants), scored_frames(config)
    _check_sources(config, variants, source)
    scored = frames_digest(source)
    shared = config.shared() | {"pretrain": identity_of(config.pretrain)}
    shared |= {"scored": scored} if scored else {}
    digest = claim(config.out, "study.yaml", shared, "a study")
    key = config_hash([digest, str(config.out)])
    about = (short_name(source.spec), f"{len(variants)} variants", f"{config.steps} steps")
    with (
        run_in_folder(config.tracking, "ablate", key, to_plain(config), config.out, about) as run,
        ray_session(config.dashboard),
    ):
        record_frames(run, source, scored, "evaluation")
        run.tags({"cpcdr.protocol": source.protocol})
        plan = _plan(config, variants, source, run)
        from cpcdr.trials.record import RecordTrials  # imports Ray

        records = StudyRecords(plan, source.protocol)
        with RecordTrials(records, config.tracking, run.run_id, key, "ablate") as recorder:
            run_study(plan, recorder)
        result = conclude(plan, digest, records.errors, run)
        table, report = config.out / "table.md", config.out / "report.json"
        run.describe(result)
        end_with({"table": table, "report": report, "run": run.place, "trials": run.trials})
        return {**result, "seconds": round(time.perf_counter() - start, 1)}


def scored_frames(config: AblateConfig) -> FrameSource:
    """The frames that are scored on.

    Raises:
        InputError: they have no labels that can be read under the protocol.
    """
    unseen = f"synthetic:seed={UNSEEN_STREETS},streets=64,frames=1,{config.shape}"
    source = open_frames(config.evaluate or unseen, config.evaluate_options)
    if not source.protocol:
        raise InputError(
            f"{source.spec}: has no labels to score on; give labelled frames with --evaluate."
        )
    if config.protocol:
        source = with_protocol(source, config.protocol)
    require_labels(source)
    return source


@phase("comparing frames")
def _check_sources(config: AblateConfig, variants: Sequence[Variant], scored: FrameSource) -> None:
    """Refuse missing labels and overlapping training and test frames before any work."""
    if config.data is None:
        manifest: dict[str, Any] = {"config": to_plain(config.preparation())}
    else:
        manifest = read_manifest(config.data)
    pretrained = source_of(manifest)
    if any(variant.regions == "objects" for variant in variants):
        with_finest_labels(pretrained)
    if common := common_frames(pretrained, scored):
        raise InputError(
            f"{common} frames of {scored.spec} are among those that are pre-trained on; keep them "
            "apart, such as with --options.window=:-50 and --evaluate-options.window=-40:."
        )


def _plan(
    config: AblateConfig, variants: Sequence[Variant], source: FrameSource, run: Run
) -> StudyPlan:
    """Everything that the trials need, made where it is missing."""
    datasets = _datasets(config, variants, run)
    material = _material(config, source, datasets["depth"])
    trials = tuple(StudyTrial(variant, seed) for seed in config.seeds for variant in variants)
    plan = StudyPlan(config, datasets, material, trials)
    # Refuse too few frames for a mosaic here rather than in every trial.
    task_of(plan.settings(plan.trials[0])).steps_per_epoch(1)
    return plan


def _datasets(config: AblateConfig, variants: Sequence[Variant], run: Run) -> dict[str, Path]:
    """The dataset folder of each kind of regions that a variant needs, made where it is missing."""
    base = config.data.absolute() if config.data is not None else config.out / "dataset"
    kinds = {variant.regions for variant in variants} - {"depth"}
    if config.data is None:
        prepare(replace(config.preparation(), tracking=replace(config.tracking, parent=run.run_id)))
    record_prepared(run, base, read_manifest(base), "training")
    folders = {kind: config.out / f"dataset-{kind}" for kind in sorted(kinds)}
    for kind, folder in folders.items():
        with_regions(base, folder, kind)
    return {"depth": base, **folders}


@phase("choosing frames to score on")
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
