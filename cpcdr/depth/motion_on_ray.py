"""Looking for motion in all frames of a source, on Ray Data: what depth can be learned from."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa

from cpcdr.depth.triplets import FrameMotion, FrameReader, measure_motion, runs_of_frames
from cpcdr.frames import FrameRef, FrameSource
from cpcdr.frames.row import REF_SCHEMA
from cpcdr.runtime.session import on_cluster

_SCHEMA = pa.schema([("frame_id", pa.string()), ("flow", pa.float64()), ("reason", pa.string())])


class MeasureMotion:
    """A Ray Data actor: consecutive frames of one sequence in, their motion out.

    Args:
        source: where the frames are.
        size: (H, W) to fit frames to.
    """

    def __init__(self, source: FrameSource, size: tuple[int, int]) -> None:
        self.reader = FrameReader(source, size, cache_bytes=0)

    def __call__(self, table: pa.Table) -> pa.Table:
        refs = [FrameRef(**row) for row in table.to_pylist()]
        rows = [motion._asdict() for motion in measure_motion(self.reader, refs)]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)


def measure_on_ray(source: FrameSource, size: tuple[int, int]) -> Iterator[FrameMotion]:
    """The motion of all frames; a block of the dataset is a piece of one sequence."""
    import ray.data
    from ray.data import ActorPoolStrategy

    blocks = [
        pa.Table.from_pylist(
            [{name: getattr(ref, name) for name in REF_SCHEMA.names} for ref in refs],
            schema=REF_SCHEMA,
        )
        for refs in runs_of_frames(source)
    ]
    if not blocks:
        return
    # A local Ray has more logical CPUs than there are cores.
    cpus = int(ray.cluster_resources().get("CPU", 1)) if on_cluster() else os.cpu_count() or 1
    most = max(1, min(cpus, len(blocks)))
    measured = ray.data.from_arrow(blocks).map_batches(
        MeasureMotion,
        fn_constructor_args=(source, size),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=1, max_size=most, initial_size=1 if on_cluster() else most
        ),
        num_cpus=1,
    )
    tables = measured.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")
    for table in tables:
        assert isinstance(table, pa.Table)
        yield from (FrameMotion(**row) for row in table.to_pylist())
