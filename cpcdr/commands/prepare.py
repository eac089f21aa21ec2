"""Frames -> disparity -> coherent depth regions -> a Parquet dataset.

Examples:
  cpcdr prepare
  cpcdr prepare --frames video:drive.mp4 --depth network:runs/depth/checkpoint \\
      --preset paper --out runs/drive
  cpcdr prepare --regroup runs/drive --regions.separation 0.05 --out runs/drive-0.05
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpcdr.commands.inputs import record_frames, record_prepared, short_name
from cpcdr.dataset import (
    FORMAT,
    LAYOUT,
    PreparedDataset,
    layout_of,
    manifest_file,
    read_manifest,
)
from cpcdr.depth.camera import LearnedCamera, where_assumed
from cpcdr.depth.sources import depth_digest, open_depth, with_checkpoint
from cpcdr.frames import FrameSource, frame_rates_of, notes_of, open_frames
from cpcdr.frames.digest import files_digest, frames_digest
from cpcdr.frames.pick import spread, usual_size
from cpcdr.frames.resize import fit_note, picture_size
from cpcdr.prepare.checks import check_depth, check_regions, refuse_hopeless
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.index import dataset_hash, finished_ids
from cpcdr.prepare.parts import (
    damaged_files,
    drop_damaged,
    finish,
    publish,
    reopen,
    to_present_layout,
)
from cpcdr.prepare.pending import Pending
from cpcdr.prepare.pipeline import stream
from cpcdr.prepare.png_tree import check_region_maps
from cpcdr.prepare.regroup import graph_settings, regroup
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, Stage
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.map_frames import warmup_of
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.run_folder import claim, is_empty, refuse_other
from cpcdr.runtime.storage import copy_dataset
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tables import counted
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.visualize.pictures import colour_disparity, colour_regions, contact_sheet

_VERSIONS = ("cpcdr", "torch", "numpy", "opencv-python-headless", "av")


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Make or complete the dataset.

    Returns:
        ``dataset``, ``hash``, ``size``, ``frames``, ``rejected``, ``regions_per_frame``,
        ``reused_frames``, ``seconds``, ``run_id``.

    Raises:
        InputError: frames or depth cannot be opened, every frame is rejected, or ``out`` holds
            a dataset of another configuration.
    """
    start = time.perf_counter()
    depth = config.depth_spec if config.regroup else with_checkpoint(config.depth_spec)
    config = _sized(replace(config, depth=depth))
    identity = _identity(config)
    digest = config_hash(identity)
    about = [short_name(config.frames), f"depth {config.depth_spec.partition(':')[0]}"]
    if config.regroup is not None:
        about = ["regrouped", str(config.regroup)]
    tracking, plain = config.tracking, to_plain(config)
    with hold(config.out), open_run(tracking, "prepare", digest, plain, about=about) as run:
        _record_source(config, identity, run)
        reused = 0
        if config.regroup is not None:
            reused = _regroup(config, config.regroup, run)
        elif config.out.exists() and not is_empty(config.out) and not _repair(config, identity):
            reused = read_manifest(config.out)["frames"]
        else:
            reused = _make(config, identity, run)
        if config.publish:
            copy_dataset(config.out, config.publish)
        manifest = read_manifest(config.out)
        seconds = time.perf_counter() - start
        sheet = dataset_sheet(PreparedDataset(config.out))
        run.figure("regions", sheet)
        layout = layout_of(config.out)
        run.artifact(config.out / layout.manifest, "dataset")
        run.artifact(config.out / layout.rejected, "dataset")
        record_prepared(run, config.out, manifest, "prepared")
        result = {
            "dataset": config.publish or str(config.out),
            "hash": manifest["hash"],
            "size": manifest["size"],
            "frames": manifest["frames"],
            "rejected": manifest["rejected"],
            "regions_per_frame": manifest["regions_per_frame"],
            "reused_frames": reused,
            "seconds": round(seconds, 2),
            "run_id": run.run_id,
        }
        run.metrics({k: v for k, v in result.items() if isinstance(v, int | float)}, step=0)
        run.describe(result)
        rejected = config.out / layout.rejected if manifest["rejected"] else ""
        end_with(
            {"dataset": result["dataset"], "rejected": rejected, "run": run.place},
            ["pretrain", "--data", result["dataset"], "--out", _training_of(config.out)],
        )
        return result


def _training_of(dataset: Path) -> str:
    """A run folder for what is trained on a dataset, so that each has its own."""
    return "runs/pretrain" if dataset.name == "data" else f"runs/pretrain-{dataset.name}"


def _sized(config: PrepareConfig) -> PrepareConfig:
    """With the size that is chosen where none is given."""
    if min(config.size) > 0 or config.regroup is not None or config.region_maps is not None:
        return config
    shape = usual_size(open_frames(config.frames, config.options))
    return replace(config, size=picture_size(shape, config.pixels))


def _identity(config: PrepareConfig) -> dict[str, Any]:
    """What decides the content of a dataset: the settings, and ``inputs``, digests of its files."""
    inputs: dict[str, str] = {}
    if config.regroup is None:  # else its manifest names what it was regrouped from
        source, depth = open_frames(config.frames, config.options), open_depth(config.depth)
        inputs = {"frames": frames_digest(source), "depth": depth_digest(depth)}
    if config.region_maps is not None:
        inputs["region_maps"] = files_digest(config.region_maps.rglob("*.png"))
    inputs = {name: digest for name, digest in inputs.items() if digest}
    return config.identity() | ({"inputs": inputs} if inputs else {})


def _record_source(config: PrepareConfig, identity: Mapping[str, Any], run: Run) -> None:
    """What the dataset is made from, as an input of the run."""
    if config.regroup is not None:
        record_prepared(run, config.regroup, read_manifest(config.regroup), "source")
    else:
        digest = identity.get("inputs", {}).get("frames", "")
        record_frames(run, open_frames(config.frames, config.options), digest, "source")


def _regroup(config: PrepareConfig, data: Path, run: Run) -> int:
    """Make the dataset from another one's graphs; the number of frames that were re-used."""
    old = graph_settings(data)
    default = RegionConfig()
    # What the graph was made with stays, unless it was given, which regroup() then refuses.
    kept = {n: v for n, v in old.items() if getattr(config.regions, n) == getattr(default, n)}
    manifest = regroup(data, config.out, replace(config.regions, **kept))
    print(
        f"{data}: the graphs of {manifest['frames']} frames were grouped again; "
        f"{manifest['regions_per_frame']:.0f} regions a frame."
    )
    check_regions(PreparedDataset(config.out), run)
    return manifest["frames"]


def _check_same(out: Path, identity: Mapping[str, Any]) -> None:
    manifest = read_manifest(out)
    old = {"hash": manifest["config_hash"], **manifest["config"]}
    old |= {"inputs": manifest["inputs"]} if manifest.get("inputs") else {}
    new = {"hash": config_hash(identity), **identity}
    refuse_other(out, "a dataset", old, new, manifest_file(out))


def _partial(config: PrepareConfig) -> Path:
    """The folder of the unfinished dataset."""
    return config.out.absolute().with_name(config.out.name + ".partial")


def _repair(config: PrepareConfig, identity: Mapping[str, Any]) -> bool:
    """Reopen a finished dataset that has damaged files; whether it has any.

    Raises:
        InputError: the dataset is of another configuration.
    """
    _check_same(config.out, identity)
    damaged = damaged_files(config.out)
    if damaged:
        print(f"{config.out}: {', '.join(damaged)} damaged; redoing what they hold.")
        reopen(config.out.absolute(), _partial(config))
    return bool(damaged)


def _make(config: PrepareConfig, identity: Mapping[str, Any], run: Run) -> int:
    """Run the pipeline over what is not done yet and publish; the number of frames re-used."""
    source = listed = open_frames(config.frames, config.options)
    depth = open_depth(config.depth)
    camera: LearnedCamera | None = getattr(depth, "camera", None)
    if camera is not None:
        source = where_assumed(source, camera, depth.name)
    alarms = check_depth(depth, source, config.size, config.allow_poor_depth, run)
    refuse_hopeless(config, depth, source)
    refs = source.refs()
    partial = _partial(config)
    to_present_layout(partial)
    claim(partial, LAYOUT.settings, identity, "an unfinished dataset")
    (partial / "data").mkdir(exist_ok=True)
    for path in drop_damaged(partial):
        print(f"warning: {path} is damaged; its frames are prepared again.")
    done = finished_ids(partial)
    pending = Pending(refs, done)
    print(
        f"{source.spec}: {len(refs)} frames; intrinsics {source.intrinsics_note}; "
        f"depth by {depth.name}."
    )
    picture = fit_note(usual_size(listed), config.size)
    for note in (picture, *notes_of(listed)):
        print(f"{note}.")
    if len(done):
        print(f"{len(refs) - len(pending)} frames are done already; resuming.")
    given = None if config.region_maps is None else check_region_maps(config.region_maps)
    stages: list[Stage] = [
        ReadFrames(source, config.size),
        EstimateDepth(depth),
        GroupRegions(config.regions, given),
    ]
    _run_pipeline(config, stages, partial, pending, done=len(refs) - len(pending))
    index, rejected = finish(partial)
    if not index.num_rows:
        reason = rejected["reason"][0].as_py() if rejected.num_rows else "no frame was read"
        raise InputError(f"{config.frames}: no frame can be used; first error: {reason}")
    about = {"depth": depth.name, "picture": picture}
    _write_manifest(config, identity, (source, listed), about, partial, index, rejected)
    publish(partial, config.out.absolute())
    check_regions(PreparedDataset(config.out), run, alarms)
    if rejected.num_rows:
        by_stage = Counter(rejected["stage"].to_pylist())
        parts = ", ".join(f"{count} by {stage}" for stage, count in by_stage.items())
        count = counted(rejected.num_rows, "frame")
        print(f"{count} rejected ({parts}): {config.out / LAYOUT.rejected}")
    return len(refs) - len(pending)


def _run_pipeline(
    config: PrepareConfig, stages: list[Stage], partial: Path, pending: Pending, done: int
) -> None:
    total = done + len(pending)
    with Progress(
        total=total, initial=done, desc="prepare", unit="frame", warmup=warmup_of(config.engine)
    ) as bar:
        if not pending:
            return
        rejected = 0
        for batch in stream(config, stages, partial, pending):
            rejected += sum(bool(reason) for reason in batch["reason"].to_pylist())
            bar.set_postfix_str(f"{rejected} rejected" if rejected else "")
            bar.update(batch.num_rows)


def _write_manifest(
    config: PrepareConfig,
    identity: Mapping[str, Any],
    sources: tuple[FrameSource, FrameSource],
    about: Mapping[str, str],
    partial: Path,
    index: pa.Table,
    rejected: pa.Table,
) -> None:
    regions, part = index["num_regions"].to_numpy(), index["part"][0].as_py()
    sizes = pq.read_table(partial / "data" / part, columns=["height", "width"]).to_pylist()
    source, listed = sources  # with the learned camera, and as it was opened
    digest = config_hash(identity)
    manifest = {
        "format": FORMAT,
        "hash": dataset_hash(digest, index["frame_id"]),
        "config_hash": digest,
        "config": config.identity(),
        "inputs": identity.get("inputs", {}),
        "frames": index.num_rows,
        "rejected": rejected.num_rows,
        "size": list(sizes[index["row"][0].as_py()].values()),
        "regions_per_frame": round(float(np.mean(regions)), 2),
        "source": source.spec,
        "protocol": source.protocol,
        "intrinsics": source.intrinsics_note,
        "notes": notes_of(listed),
        "frame_rates": frame_rates_of(listed),
        **about,
        "versions": {n: version(n) for n in _VERSIONS},
    }
    write_json(partial / LAYOUT.manifest, manifest)


@phase("drawing pictures")
def dataset_sheet(dataset: PreparedDataset, frames: int = 4) -> NDArray[np.uint8]:
    """A contact sheet of frames spread over the dataset: uint8 [H, W, 3]."""
    rows, names = [], []
    for sample in dataset.samples(spread(len(dataset), frames)):
        regions = colour_regions(sample.regions, sample.image)
        rows.append([sample.image, colour_disparity(sample.disparity), regions])
        names.append(f"{sample.frame_id}, {int(sample.regions.max()) + 1} regions")
    return contact_sheet(rows, ["frame", "disparity", "coherent depth regions"], names)
