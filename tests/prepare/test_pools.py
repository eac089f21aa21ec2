"""What the actors of prepare take: GPUs shared by several, and CPUs left for all who need some."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pipeline import actor_pools
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, Stage
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.map_frames import Room, actors_on

STAGES: list[Stage] = [
    ReadFrames(open_frames("synthetic:streets=1,frames=1"), (0, 0)),
    EstimateDepth(open_depth("ground-truth")),
    GroupRegions(RegionConfig()),
]


PARTS = Path("out")


def test_without_gpus_one_actor_a_core_does_everything() -> None:
    (pool,) = actor_pools(STAGES, PARTS, Room(4, 0), 1.0)
    assert pool.arguments == (STAGES, PARTS, "zstd")
    assert (pool.most, pool.cpus, pool.gpus) == (4, 1, 0)


@pytest.mark.parametrize("part", [1.0, 0.5, 0.25, 0.3])
def test_actors_share_gpus_and_leave_cpus_for_the_others(part: float) -> None:
    cores, gpus = 8, 2
    actors = actors_on(gpus, part)
    reading, depth, rest = actor_pools(STAGES, PARTS, Room(cores, actors), part)
    stages = [stage for pool in (reading, depth, rest) for stage in pool.arguments[0]]
    assert stages == STAGES and rest.arguments[1] == PARTS, "the last pool writes"
    assert isinstance(depth.arguments[0][0], EstimateDepth) and reading.gpus == rest.gpus == 0
    assert actors == gpus * int(1 / part) and depth.most * depth.gpus <= gpus
    taken = reading.most * reading.cpus + depth.most * depth.cpus
    assert taken + rest.cpus <= cores, "one that groups regions can start beside all others"


@pytest.mark.parametrize("part", [0.0, -0.5, 1.5, float("nan")])
def test_a_part_of_a_gpu_is_a_part(part: float) -> None:
    with pytest.raises(InputError, match="--gpus-per-actor"):
        PrepareConfig(gpus_per_actor=part)
