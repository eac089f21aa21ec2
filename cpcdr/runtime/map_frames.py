"""One way of mapping frames over many processes: actors of Ray Data, or the same in this process.

What flows is Arrow tables, one a block. What an actor is depends on the stage that passes it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from cpcdr.runtime.session import machines, on_cluster, ray_session, refuse_what_never_fits

Actor = Callable[[pa.Table], pa.Table]

FRAMES_WORTH_AN_ACTOR = 64  # an actor needs about as long to start as for so many small frames


def warmup_of(engine: str) -> str:
    """What a progress bar of frames waits for at first."""
    return "workers start, kernels compile" if engine == "ray" else "first frames"


class Room(NamedTuple):
    """Actors that can run side by side.

    Attributes:
        cores: on CPUs.
        gpus: on GPUs; 0: there are none.
    """

    cores: int
    gpus: int


@dataclass(frozen=True)
class Pool:
    """Equal actors.

    Attributes:
        actor: makes one, in the process where it runs.
        cpus: logical CPUs that each takes.
        gpus: GPUs that each takes; a fraction shares one.
        remedy: what to do if no machine has room for one, the end of a sentence.
    """

    actor: Callable[..., Actor]
    arguments: tuple[Any, ...]
    most: int
    cpus: float = 1.0
    gpus: float = 0.0
    remedy: str = "add a machine"

    def needs(self) -> dict[str, float]:
        """The resources of one actor."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


@contextmanager
def session_of(engine: str, dashboard: bool = False) -> Iterator[None]:
    """Ray for the engine ``ray``; nothing for ``local``."""
    with ray_session(dashboard) if engine == "ray" else nullcontext():
        yield


def room_for(engine: str, workers: int = 0, gpus: int = -1, gpus_per_actor: float = 1.0) -> Room:
    """How many actors the machines hold, those included that a growing cluster may start.

    Args:
        engine: ``ray``, in a session, or ``local``.
        workers: on CPUs; 0: one for each core.
        gpus: on GPUs; -1: as many as fit.
        gpus_per_actor: the part of a GPU that one takes.
    """
    if engine == "local":
        return Room(1, 0)
    available, _ = machines()
    on_gpus = sum(actors_on(have.get("GPU", 0), gpus_per_actor) * n for have, n in available)
    # A local Ray has more logical CPUs than there are cores.
    cores = sum(int(have.get("CPU", 0)) * number for have, number in available)
    cores = cores if on_cluster() else os.cpu_count() or 1
    return Room(workers or max(1, cores), on_gpus if gpus < 0 else gpus)


def actors_on(gpus: float, gpus_per_actor: float) -> int:
    """How many actors the GPUs hold, none of them on two.

    >>> actors_on(2, 1.0), actors_on(2, 0.25), actors_on(2, 0.4), actors_on(0, 0.25)
    (2, 8, 4, 0)
    """
    return int(gpus) * int(1 / gpus_per_actor + 1e-9)


def table_of(records: Sequence[Any]) -> pa.Table:
    """Instances of a dataclass as rows."""
    names = [field.name for field in fields(records[0])] if records else []
    return pa.table({name: [getattr(record, name) for record in records] for name in names})


def block_size(records: int, most: int, workers: int) -> int:
    """Records of a block: at most ``most``, and so few that every worker is kept busy."""
    return max(1, min(most, -(-records // (4 * workers))))


def blocks_of(records: Sequence[Any], most: int, workers: int) -> list[pa.Table]:
    """Consecutive dataclass instances in blocks of one size, enough to keep every worker busy."""
    return list(_blocks(records, block_size(len(records), most, workers)))


def windows_of(records: Iterable[Any], size: int, window: int) -> Iterator[list[pa.Table]]:
    """Consecutive dataclass instances in blocks of ``size``; no more blocks at once than needed.

    Args:
        window: instances at once, rounded down to whole blocks, but not to none.
    """
    blocks = _blocks(records, size)
    while some := list(islice(blocks, max(1, window // size))):
        yield some


def _blocks(records: Iterable[Any], size: int) -> Iterator[pa.Table]:
    rest = iter(records)
    while some := list(islice(rest, size)):
        yield table_of(some)


def map_blocks(
    pools: Sequence[Pool], blocks: Sequence[pa.Table], engine: str, ordered: bool = False
) -> Iterator[pa.Table]:
    """The blocks after an actor of every pool, one pool after the other.

    Ray replaces actors that die and repeats their blocks. Its pools grow with the work: on a
    cluster, whose machines may come only when asked for, from one actor.

    Args:
        pools: what is done; a block is one call of an actor.
        blocks: tables of equal sizes (the last may be smaller) where a pool has GPUs.
        ordered: keep the order of the blocks; else they come as they are done.

    Raises:
        InputError: no machine has room for an actor.
    """
    if not blocks:
        return
    if engine == "local":
        actors = [pool.actor(*pool.arguments) for pool in pools]
        for block in blocks:
            for actor in actors:
                block = actor(block)
            yield block
        return
    with ray_session():
        yield from _map_on_ray(pools, blocks, ordered)


def _map_on_ray(
    pools: Sequence[Pool], blocks: Sequence[pa.Table], ordered: bool
) -> Iterator[pa.Table]:
    import ray.data
    from ray.data import ActorPoolStrategy

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order
    context.execution_options.preserve_order = ordered
    try:
        for pool in pools:  # before from_arrow, whose tasks wait for machines as well
            refuse_what_never_fits("actors", 1, pool.needs(), pool.remedy)
        dataset: ray.data.Dataset = ray.data.from_arrow(list(blocks))
        for pool in pools:
            most = max(1, min(pool.most, len(blocks)))
            dataset = dataset.map_batches(
                pool.actor,
                fn_constructor_args=pool.arguments,
                batch_size=blocks[0].num_rows if pool.gpus else None,  # Ray wants one for GPUs
                batch_format="pyarrow",
                compute=ActorPoolStrategy(
                    min_size=1, max_size=most, initial_size=1 if on_cluster() else most
                ),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
            )
        yield from dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow")
    finally:
        context.execution_options.preserve_order = before


def pool_for(
    actor: Callable[..., Actor],
    arguments: tuple[Any, ...],
    room: Room,
    frames: int,
    workers: int = 0,
) -> Pool:
    """Actors for so many frames: on GPUs where there are any, else on cores."""
    worth = -(-frames // FRAMES_WORTH_AN_ACTOR)
    most = workers or room.gpus or max(1, min(room.cores, worth))
    remedy = "add a machine, or run without Ray: --engine local"
    return Pool(actor, arguments, most, 1.0, 1.0 if room.gpus else 0.0, remedy)


def map_frames(
    actor: Callable[..., Actor],
    arguments: tuple[Any, ...],
    refs: Sequence[Any],
    engine: str,
    workers: int = 0,
    ordered: bool = False,
    most: int = 16,
) -> Iterator[dict[str, Any]]:
    """Rows of one kind of actor for all frames: each on a GPU where there are any, else on a core.

    Args:
        actor: makes one; it takes tables of ``refs``.
        workers: actors; 0: one for each GPU, or for each core that the frames are worth.

    Raises:
        InputError: no machine has room for an actor.
    """
    with session_of(engine):
        pool = pool_for(actor, arguments, room_for(engine), len(refs), workers)
        blocks = blocks_of(refs, 1 if engine == "local" else most, pool.most)
        for table in map_blocks([pool], blocks, engine, ordered):
            yield from table.to_pylist()
