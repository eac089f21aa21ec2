"""The driver of prepare: what is left to do, the Ray Data pipeline, the manifest."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cpcdr.config import config_hash, read_yaml, to_plain, write_atomic, write_yaml
from cpcdr.dataset import PreparedDataset, read_manifest
from cpcdr.depth.camera import LearnedCamera, where_assumed
from cpcdr.depth.sources import open_depth
from cpcdr.errors import InputError
from cpcdr.frames import FrameOptions, FrameRef, FrameSource, open_frames
from cpcdr.prepare.checks import check_depth, check_regions, some_frames
from cpcdr.prepare.figures import dataset_sheet
from cpcdr.prepare.parts import finish, finished_ids, publish
from cpcdr.prepare.png_tree import check_region_maps
from cpcdr.prepare.pools import actor_pools, actors_on
from cpcdr.prepare.regroup import graph_settings, regroup
from cpcdr.prepare.stages import (
    REF_SCHEMA,
    EstimateDepth,
    GroupRegions,
    ReadFrames,
    RunStages,
    Stage,
    WriteParts,
)
from cpcdr.progress import Progress
from cpcdr.regions import RegionConfig
from cpcdr.session import on_cluster, ray_session, refuse_what_never_fits
from cpcdr.storage import copy_dataset
from cpcdr.tracking import Run, TrackingConfig, open_run


@dataclass(frozen=True)
class PrepareConfig:
    """Frames in, a dataset of frames with disparity and coherent depth regions out.

    Attributes:
        frames: ``KIND:PATH``; kinds are synthetic, video, images, cityscapes, kitti-raw,
            kitti-odometry, kitti-semantics, camvid.
        depth: ``ground-truth`` (synthetic street), ``network:CHECKPOINT`` (from train_depth.py),
            ``precomputed:ROOT`` (16-bit PNG: the released code's tree, Cityscapes' disparity or
            KITTI's depth), ``stereo:`` (right images), ``hf:FOLDER-or-name`` (transformers).
        out: the dataset folder to make; run the same command again to continue or re-use it.
        size: height and width of the prepared frames (scaled to cover, then centre-cropped);
            0 0 keeps each frame's own.
        engine: ``ray``, or ``local``: one frame after the other in this process, without Ray.
        workers: actors on CPUs; 0: one for each CPU core that there is. Give the number on a
            cluster that starts its machines on demand.
        gpus: actors on GPUs for depth networks; -1: as many as the GPUs that there are hold.
        gpus_per_actor: the part of a GPU that one of them takes: 0.25 puts four on a GPU, which
            small networks need to keep it busy.
        frames_per_part: frames that one part file holds, and that a kill can cost.
        region_maps: a folder of region maps in 16-bit PNG files (the released code's ``region/``)
            that are taken instead of grouping.
        regroup: a prepared dataset whose cached graphs are grouped again with the thresholds of
            ``regions`` (gain, bias, separation, preferred-modules); no frame, depth or superpixel
            is computed, and ``frames`` and ``depth`` are not used.
        publish: where the finished dataset is copied, such as ``s3://bucket/dataset``; readers see
            it only when it is whole.
        allow_poor_depth: go on although a look at some frames says that the depth is bad.
    """

    frames: str = "synthetic:"
    depth: str = "ground-truth"
    out: Path = Path("runs/dataset")
    size: tuple[int, int] = (0, 0)
    engine: str = "ray"
    workers: int = 0
    gpus: int = -1
    gpus_per_actor: float = 1.0
    frames_per_part: int = 32
    region_maps: Path = Path()
    regroup: Path = Path()
    publish: str = ""
    allow_poor_depth: bool = False
    options: FrameOptions = field(default_factory=FrameOptions)
    regions: RegionConfig = field(default_factory=RegionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if self.engine not in ("ray", "local"):
            raise InputError(f"--engine '{self.engine}' is unknown; choose ray or local.")
        if not 0 < self.gpus_per_actor <= 1:
            raise InputError("--gpus-per-actor must be more than 0 and at most 1.")

    def identity(self) -> dict[str, Any]:
        """The part of the configuration that decides what is in the dataset."""
        if self.regroup != Path():
            return {"regroup": str(self.regroup.absolute()), "regions": to_plain(self.regions)}
        names = ["frames", "depth", "size", "options", "regions"]
        names += ["region_maps"] if self.region_maps != Path() else []
        return {name: to_plain(getattr(self, name)) for name in names}


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Make the dataset, or what is left of it.

    Returns:
        ``dataset``, ``hash``, ``frames``, ``rejected``, ``regions_per_frame``, ``reused_frames``,
        ``seconds``, ``run_id``.

    Raises:
        InputError: frames or depth cannot be opened, every frame is rejected, or ``out`` holds
            a dataset of another configuration.
    """
    start, digest = time.perf_counter(), config_hash(config.identity())
    with open_run(config.tracking, "prepare", digest, to_plain(config)) as run:
        reused = 0
        if config.regroup != Path():
            reused = _regroup(config, run)
        elif config.out.exists():
            _check_same(config.out, digest)
            reused = read_manifest(config.out)["frames"]
        else:
            reused = _make(config, digest, run)
        if config.publish:
            copy_dataset(config.out, config.publish)
        manifest = read_manifest(config.out)
        seconds = time.perf_counter() - start
        sheet = dataset_sheet(PreparedDataset(config.out))
        run.figure("regions", sheet)
        run.artifact(config.out / "manifest.json", "dataset")
        run.artifact(config.out / "rejected.parquet", "dataset")
        run.dataset(config.out, manifest["hash"])
        result = {
            "dataset": config.publish or str(config.out),
            "hash": manifest["hash"],
            "frames": manifest["frames"],
            "rejected": manifest["rejected"],
            "regions_per_frame": manifest["regions_per_frame"],
            "reused_frames": reused,
            "seconds": round(seconds, 2),
            "run_id": run.run_id,
        }
        run.metrics({k: v for k, v in result.items() if isinstance(v, int | float)}, step=0)
        return result


def _regroup(config: PrepareConfig, run: Run) -> int:
    """Make the dataset from another one's graphs; the number of frames that were re-used."""
    old = graph_settings(config.regroup)
    default = RegionConfig()
    # What the graph was made with stays, unless it was given, which regroup() then refuses.
    kept = {n: v for n, v in old.items() if getattr(config.regions, n) == getattr(default, n)}
    manifest = regroup(config.regroup, config.out, replace(config.regions, **kept))
    print(
        f"{config.regroup}: the graphs of {manifest['frames']} frames were grouped again; "
        f"{manifest['regions_per_frame']:.0f} regions a frame."
    )
    check_regions(PreparedDataset(config.out), run)
    return manifest["frames"]


def _check_same(out: Path, digest: str) -> None:
    if read_manifest(out)["config_hash"] != digest:
        raise InputError(
            f"{out}: holds a dataset of another configuration (see its manifest.json); "
            "give another --out, or delete the folder."
        )


def _make(config: PrepareConfig, digest: str, run: Run) -> int:
    """Run the pipeline over what is not done yet and publish; the number of frames re-used."""
    source = open_frames(config.frames, config.options)
    depth = open_depth(config.depth)
    camera: LearnedCamera | None = getattr(depth, "camera", None)
    if camera is not None:
        source = where_assumed(source, camera, depth.name)
    frames = some_frames(source, config.size)
    alarms = check_depth(depth, frames, config.allow_poor_depth, run)
    refs = source.refs()
    partial = config.out.absolute().with_name(config.out.name + ".partial")
    _claim(partial, config, digest)
    done = finished_ids(partial)
    pending = [ref for ref in refs if ref.frame_id not in done]
    print(f"{source.spec}: {len(refs)} frames; intrinsics {source.intrinsics_note}.")
    if done:
        print(f"{len(refs) - len(pending)} frames are done already; going on.")
    given = None if config.region_maps == Path() else check_region_maps(config.region_maps)
    stages: list[Stage] = [
        ReadFrames(source, config.size),
        EstimateDepth(depth),
        GroupRegions(config.regions, given),
        WriteParts(partial),
    ]
    _run_pipeline(config, stages, pending, done=len(refs) - len(pending))
    index, rejected = finish(partial)
    if not index.num_rows:
        reason = rejected["reason"][0].as_py() if rejected.num_rows else "no frame was read"
        raise InputError(f"{config.frames}: no frame can be used; the first says: {reason}")
    _write_manifest(config, digest, source, depth.name, partial, index, rejected)
    publish(partial, config.out.absolute())
    check_regions(PreparedDataset(config.out), run, alarms)
    if rejected.num_rows:
        by_stage = Counter(rejected["stage"].to_pylist())
        parts = ", ".join(f"{count} by {stage}" for stage, count in by_stage.items())
        print(f"{rejected.num_rows} frames rejected ({parts}): {config.out / 'rejected.parquet'}")
    return len(refs) - len(pending)


def _claim(partial: Path, config: PrepareConfig, digest: str) -> None:
    """Make the working folder, or see that it belongs to this very configuration."""
    path = partial / "config.yaml"
    if path.exists() and read_yaml(path).get("hash") != digest:
        raise InputError(
            f"{partial}: is the unfinished dataset of another configuration; "
            "give another --out, or delete the folder."
        )
    (partial / "data").mkdir(parents=True, exist_ok=True)
    write_yaml(path, {"hash": digest, **config.identity()})


def _run_pipeline(
    config: PrepareConfig, stages: list[Stage], pending: list[FrameRef], done: int
) -> None:
    total = done + len(pending)
    with Progress(total=total, initial=done, desc="prepare", unit="frame") as bar:
        if not pending:
            return
        rejected = 0
        for batch in stream(config, stages, pending):
            rejected += sum(bool(reason) for reason in batch["reason"].to_pylist())
            bar.set_postfix_str(f"{rejected} rejected" if rejected else "")
            bar.update(batch.num_rows)


def stream(
    config: PrepareConfig, stages: list[Stage], pending: list[FrameRef]
) -> Iterator[pa.Table]:
    """Tables of the frames that were written, part by part."""
    if config.engine == "local":
        yield from map(
            RunStages(stages, uuid4().hex), blocks_of(pending, config.frames_per_part, 1)
        )
        return
    with ray_session():
        yield from _stream_on_ray(config, stages, pending)


def _stream_on_ray(
    config: PrepareConfig, stages: list[Stage], pending: list[FrameRef]
) -> Iterator[pa.Table]:
    """The same on Ray Data. A block is one part from end to end, and so is a batch."""
    import ray.data
    from ray.data import ActorPoolStrategy

    resources = ray.cluster_resources()
    part = config.gpus_per_actor
    gpus = actors_on(resources.get("GPU", 0), part) if config.gpus < 0 else config.gpus
    # A local Ray has more logical CPUs than there are cores.
    cores = int(resources.get("CPU", 0)) if on_cluster() else os.cpu_count() or 1
    cores = config.workers or max(1, cores)
    needs = {"CPU": 0.5, "GPU": part} if gpus else {"CPU": 1.0}
    refuse_what_never_fits("actors", 1, needs, "take --gpus 0" if gpus else "add a machine")
    blocks = blocks_of(pending, config.frames_per_part, cores)
    dataset: ray.data.Dataset = ray.data.from_arrow(blocks)
    run = uuid4().hex
    rows = blocks[0].num_rows
    for pool in actor_pools(stages, cores, gpus, part):
        most = max(1, min(pool.actors, len(blocks)))
        dataset = dataset.map_batches(
            RunStages,
            fn_constructor_args=(pool.stages, run),
            batch_size=rows if pool.gpus else None,  # Ray wants a number for GPUs
            batch_format="pyarrow",
            # A cluster's machines may come only when asked for; those of a local Ray are here.
            compute=ActorPoolStrategy(
                min_size=1, max_size=most, initial_size=1 if on_cluster() else most
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
        )
    yield from dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")


def blocks_of(pending: list[FrameRef], most: int, cores: int) -> list[pa.Table]:
    """Consecutive frames together, in parts small enough to keep every core busy to the end."""
    size = max(1, min(most, -(-len(pending) // (4 * cores))))
    columns = {name: [getattr(ref, name) for ref in pending] for name in REF_SCHEMA.names}
    table = pa.table(columns, schema=REF_SCHEMA)
    return [table.slice(start, size) for start in range(0, table.num_rows, size)]


def _write_manifest(
    config: PrepareConfig,
    digest: str,
    source: FrameSource,
    depth: str,
    partial: Path,
    index: pa.Table,
    rejected: pa.Table,
) -> None:
    regions = index["num_regions"].to_numpy()
    manifest = {
        "format": 1,
        "hash": config_hash({"config": digest, "frames": index["frame_id"].to_pylist()}),
        "config_hash": digest,
        "config": config.identity(),
        "frames": index.num_rows,
        "rejected": rejected.num_rows,
        "size": _size_of_first(partial, index),
        "regions_per_frame": round(float(np.mean(regions)), 2),
        "source": source.spec,
        "protocol": source.protocol,
        "intrinsics": source.intrinsics_note,
        "depth": depth,
        "versions": {n: version(n) for n in ("cpcdr", "torch", "numpy", "opencv-python-headless")},
    }
    write_atomic(partial / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def _size_of_first(partial: Path, index: pa.Table) -> list[int]:
    part = pq.read_table(
        partial / "data" / index["part"][0].as_py(), columns=["height", "width"]
    ).slice(index["row"][0].as_py(), 1)
    return [part["height"][0].as_py(), part["width"][0].as_py()]
