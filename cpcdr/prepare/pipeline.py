"""frames -> depth -> regions -> Parquet parts, in this process or through Ray Data actors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pyarrow as pa

from cpcdr.frames.frame import FrameRef
from cpcdr.frames.row import REF_SCHEMA
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pools import actor_pools, actors_on
from cpcdr.prepare.stages import RunStages, Stage
from cpcdr.runtime.session import on_cluster, ray_session, refuse_what_never_fits


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
