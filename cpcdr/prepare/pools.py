"""Which actors run the stages on Ray Data, and what each of them takes: arithmetic without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cpcdr.prepare.stages import Stage


class Pool(NamedTuple):
    """Equal actors that run some stages one after the other.

    Attributes:
        stages: what they run.
        actors: how many there are at most.
        cpus: logical CPUs that each takes.
        gpus: GPUs that each takes.
    """

    stages: Sequence[Stage]
    actors: int
    cpus: float
    gpus: float


def actor_pools(
    stages: Sequence[Stage], cores: int, gpu_actors: int, gpus_per_actor: float
) -> list[Pool]:
    """The pools that frames flow through: reading, depth and the rest of ``stages`` in order.

    On CPUs the stages of a frame run in one actor, which saves every copy between them. With GPUs
    depth gets actors of its own, and what comes before and after runs on CPUs beside them.

    Args:
        stages: the first reads, the second estimates depth.
        cores: CPU cores.
        gpu_actors: actors on GPUs; 0: there are none.
        gpus_per_actor: the part of a GPU that one of them takes.
    """
    if not gpu_actors:
        return [Pool(stages, cores, 1.0, 0.0)]
    # Those that share a GPU share half a CPU: however many they are, readers and writers start.
    return [
        Pool(stages[:1], cores, 0.5, 0.0),
        Pool(stages[1:2], gpu_actors, 0.5 * gpus_per_actor, gpus_per_actor),
        Pool(stages[2:], cores, 0.5, 0.0),
    ]


def actors_on(gpus: float, gpus_per_actor: float) -> int:
    """How many actors the GPUs hold, none of them on two.

    >>> actors_on(2, 1.0), actors_on(2, 0.25), actors_on(2, 0.4), actors_on(0, 0.25)
    (2, 8, 4, 0)
    """
    return int(gpus) * int(1 / gpus_per_actor + 1e-9)
