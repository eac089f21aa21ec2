"""frames -> depth -> regions -> Parquet parts: which actors run the stages."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from cpcdr.frames.frame import FrameRef
from cpcdr.maps import Compression
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pending import Pending
from cpcdr.prepare.stages import RunStages, Stage
from cpcdr.runtime.map_frames import (
    Pool,
    Room,
    block_size,
    map_blocks,
    room_for,
    session_of,
    windows_of,
)

_WINDOW = 2**16
_BLOCKS_PER_CORE = 8
"""The least of a window: at its end cores wait for each other, about half a block each."""


def stream(
    config: PrepareConfig,
    stages: Sequence[Stage],
    parts: Path | None,
    pending: Sequence[FrameRef] | Pending,
    window: int = 0,
) -> Iterator[pa.Table]:
    """Tables of the frames that went through all stages; each is a part, from end to end.

    Args:
        stages: the first reads, the second estimates depth.
        parts: the folder of part files; None passes the rows on.
        window: frames that Ray is given at once, in whole blocks; 0: 65 536, or more if the
            machines have many cores.
    """
    with session_of(config.engine, config.dashboard):
        room = room_for(config.engine, config.workers, config.gpus, config.gpus_per_actor)
        size = block_size(len(pending), config.frames_per_part, room.cores)
        pools = actor_pools(stages, parts, room, config.gpus_per_actor, config.compression)
        window = window or max(_WINDOW, _BLOCKS_PER_CORE * room.cores * size)
        # Ray holds all blocks of a dataset until its end. A dataset per window bounds them, and
        # costs the start of its actors, some seconds in which networks are loaded again.
        for blocks in windows_of(pending, size, window):
            yield from map_blocks(pools, blocks, config.engine)


def actor_pools(
    stages: Sequence[Stage],
    parts: Path | None,
    room: Room,
    gpus_per_actor: float,
    compression: Compression = "zstd",
) -> list[Pool]:
    """The pools that frames flow through: reading, depth and the rest of ``stages`` in order.

    On CPUs the stages of a frame run in one actor, which saves every copy between them. With GPUs
    depth gets actors of its own, and what comes before and after runs on CPUs beside them.
    """
    if not room.gpus:
        return [Pool(RunStages, (stages, parts, compression), room.cores)]
    # Those that share a GPU share half a CPU: however many they are, readers and writers start.
    cpus, remedy = 0.5 * gpus_per_actor, "take --gpus 0"
    return [
        Pool(RunStages, (stages[:1],), room.cores, 0.5),
        Pool(RunStages, (stages[1:2],), room.gpus, cpus, gpus_per_actor, remedy),
        Pool(RunStages, (stages[2:], parts, compression), room.cores, 0.5),
    ]
