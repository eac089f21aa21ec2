"""Mapping over actors: the engines agree, order is kept, the dead are replaced, GPUs may come."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.map_frames import (
    Pool,
    Room,
    block_size,
    blocks_of,
    map_blocks,
    map_frames,
    pool_for,
    room_for,
    windows_of,
)


@dataclass(frozen=True)
class Ref:
    name: str
    number: int


REFS = [Ref(f"frame {i}", i) for i in range(23)]


def squaring() -> Callable[..., Any]:
    """A class that travels to Ray's workers by value: they cannot import tests."""

    class Squares:
        def __init__(self, factor: int, folder: Path | None = None) -> None:
            self.factor, self.folder = factor, folder

        def __call__(self, table: pa.Table) -> pa.Table:
            if self.folder is not None and 11 in table["number"].to_pylist():
                died = self.folder / "died"
                if not died.exists():
                    died.touch()
                    os._exit(1)
            squares = [self.factor * n * n for n in table["number"].to_pylist()]
            return table.append_column("square", pa.array(squares))

    return Squares


def test_blocks_keep_all_workers_busy_and_are_of_one_size() -> None:
    sizes = [block.num_rows for block in blocks_of(REFS, 16, 2)]
    assert sizes == [3] * 7 + [2]
    assert [block.num_rows for block in blocks_of(REFS, 2, 1)] == [2] * 11 + [1]
    assert blocks_of([], 4, 2) == []


@pytest.mark.parametrize(("window", "blocks"), [(1, 1), (3, 1), (8, 2), (11, 3), (1000, 8)])
def test_windows_are_whole_blocks_made_when_they_are_needed(window: int, blocks: int) -> None:
    taken: list[int] = []
    records = (taken.append(ref.number) or ref for ref in REFS)
    windows = windows_of(records, block_size(len(REFS), 16, 2), window)
    first = next(windows)
    assert len(first) == blocks and len(taken) == min(3 * blocks, len(REFS))
    every = [*first, *(block for more in windows for block in more)]
    assert every == blocks_of(REFS, 16, 2)
    assert not list(windows_of([], 3, window))


@pytest.mark.slow
def test_ray_and_this_process_agree(ray_local: Any) -> None:
    here = list(map_frames(squaring(), (3,), REFS, "local"))
    assert [row["square"] for row in here] == [3 * n * n for n in range(23)]
    assert list(map_frames(squaring(), (3,), REFS, "ray", workers=2, ordered=True, most=2)) == here
    free = map_frames(squaring(), (3,), REFS, "ray", workers=2, most=2)
    assert sorted(free, key=lambda row: row["number"]) == here
    context = ray_local.data.DataContext.get_current()
    assert not context.execution_options.preserve_order, "left as it was"


@pytest.mark.slow
def test_an_actor_that_dies_is_replaced(ray_local: Any, tmp_path: Path) -> None:
    rows = list(map_frames(squaring(), (1, tmp_path), REFS, "ray", workers=2, ordered=True))
    assert (tmp_path / "died").exists()
    assert [row["square"] for row in rows] == [n * n for n in range(23)]


@pytest.mark.slow
def test_pools_follow_each_other(ray_local: Any) -> None:
    renamed = squaring()

    class Sums:
        def __call__(self, table: pa.Table) -> pa.Table:
            return pa.table({"sum": [sum(table["square"].to_pylist())]})

    pools = [Pool(renamed, (2,), 2), Pool(Sums, (), 1)]
    blocks = blocks_of(REFS, 4, 1)
    here = [table.to_pylist() for table in map_blocks(pools, blocks, "local", ordered=True)]
    there = [table.to_pylist() for table in map_blocks(pools, blocks, "ray", ordered=True)]
    assert here == there and len(here) == len(blocks)


@pytest.mark.slow
def test_what_never_fits_is_refused(ray_local: Any) -> None:
    pool = Pool(squaring(), (1,), 2, 1.0, 1.0, "take --gpus 0")
    with pytest.raises(InputError, match=r"1 actors x 1 CPUs \+ 1 GPUs do not fit.*--gpus 0"):
        list(map_blocks([pool], blocks_of(REFS, 4, 1), "ray"))


@pytest.mark.slow
def test_machines_that_may_come_count(
    ray_local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the README's cluster there is only the head at first, without CPUs and GPUs."""
    kinds = {
        "head": {"resources": {"CPU": 0}},
        "gpu_worker": {"max_workers": 4, "resources": {"CPU": 8, "GPU": 1}},
    }
    cluster = {"max_workers": 4, "head_node_type": "head", "available_node_types": kinds}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(cluster))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert room_for("ray").gpus == 0, "a machine of one's own has what it has"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    room = room_for("ray")
    assert room == Room(cores=32, gpus=4)
    assert room_for("ray", gpus_per_actor=0.5).gpus == 8
    assert room_for("ray", workers=3, gpus=1) == Room(3, 1)
    pool = pool_for(squaring(), (1,), room, frames=1000)
    assert (pool.most, pool.needs()) == (4, {"CPU": 1.0, "GPU": 1.0})


def test_few_frames_start_few_actors() -> None:
    pool = pool_for(squaring(), (1,), Room(16, 0), frames=130)
    assert (pool.most, pool.needs()) == (3, {"CPU": 1.0})
    assert pool_for(squaring(), (1,), Room(16, 0), frames=130, workers=5).most == 5
