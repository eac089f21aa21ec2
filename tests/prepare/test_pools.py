"""What the actors of prepare take: GPUs shared by several, and CPUs left for all who need some."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pools import actor_pools, actors_on
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, Stage, WriteParts
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError

STAGES: list[Stage] = [
    ReadFrames(open_frames("synthetic:streets=1,frames=1"), (0, 0)),
    EstimateDepth(open_depth("ground-truth")),
    GroupRegions(RegionConfig()),
    WriteParts(Path("out")),
]


def test_without_gpus_one_actor_a_core_does_everything() -> None:
    (pool,) = actor_pools(STAGES, 4, 0, 1.0)
    assert pool.stages == STAGES and (pool.actors, pool.cpus, pool.gpus) == (4, 1, 0)


@pytest.mark.parametrize("part", [1.0, 0.5, 0.25, 0.3])
def test_actors_share_gpus_and_leave_cpus_for_the_others(part: float) -> None:
    cores, gpus = 8, 2
    actors = actors_on(gpus, part)
    reading, depth, rest = actor_pools(STAGES, cores, actors, part)
    assert [*reading.stages, *depth.stages, *rest.stages] == STAGES
    assert isinstance(depth.stages[0], EstimateDepth) and reading.gpus == rest.gpus == 0
    assert actors == gpus * int(1 / part) and depth.actors * depth.gpus <= gpus
    taken = reading.actors * reading.cpus + depth.actors * depth.cpus
    assert taken + rest.cpus <= cores, "one that groups regions can start beside all others"


@pytest.mark.parametrize("part", [0.0, -0.5, 1.5, float("nan")])
def test_a_part_of_a_gpu_is_a_part(part: float) -> None:
    with pytest.raises(InputError, match="--gpus-per-actor"):
        PrepareConfig(gpus_per_actor=part)
