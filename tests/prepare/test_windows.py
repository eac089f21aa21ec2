"""Frames that pass through in several windows: the same files as in one, stopped or not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.index import finished_ids
from cpcdr.prepare.parts import finish
from cpcdr.prepare.pending import Pending
from cpcdr.prepare.pipeline import stream
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, Stage
from cpcdr.regions.config import RegionConfig

CONFIG = PrepareConfig("synthetic:streets=2,frames=5,height=64,width=128,seed=7", workers=1)
CONFIG = replace(CONFIG, engine="local", frames_per_part=2)
SOURCE = open_frames(CONFIG.frames)
STAGES: list[Stage] = [
    ReadFrames(SOURCE, (0, 0)),
    EstimateDepth(open_depth("ground-truth")),
    GroupRegions(RegionConfig(superpixels=20000)),
]


def made(folder: Path, config: PrepareConfig, window: int, tables: int = 100) -> list[int]:
    """Make what is left of a dataset, or some of its parts; the frames of each table."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    left = Pending(SOURCE.refs(), finished_ids(folder))
    flow = stream(config, STAGES, folder, left, window)
    counts = [table.num_rows for table, _ in zip(flow, range(tables), strict=False)]
    flow.close()
    return counts


def digests(folder: Path) -> dict[str, str]:
    """By name, what every file of a finished dataset holds."""
    finish(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert made(folder, CONFIG, 0) == [2] * 5
    return folder


@pytest.mark.parametrize("window", [1, 5, 6, 10])
def test_windows_in_this_process_give_the_same_files(
    whole: Path, tmp_path: Path, window: int
) -> None:
    assert made(tmp_path, CONFIG, window) == [2] * 5
    assert digests(tmp_path) == digests(whole)


@pytest.mark.slow
def test_windows_on_ray_give_the_same_files(whole: Path, tmp_path: Path, ray_local: object) -> None:
    assert made(tmp_path, replace(CONFIG, engine="ray", workers=2), 6) == [2] * 5
    assert digests(tmp_path) == digests(whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_what_is_stopped_in_a_later_window_resumes(
    whole: Path, tmp_path: Path, ray_local: object, engine: str
) -> None:
    config = replace(CONFIG, engine=engine)
    made(tmp_path, config, 4, tables=3)
    done = len(finished_ids(tmp_path))
    assert 6 <= done <= 8, "in the second window of three"
    assert sum(made(tmp_path, config, 0)) <= 10 - done, "what is done is not done again"
    index, _ = finish(tmp_path)
    assert index["frame_id"].to_pylist() == [ref.frame_id for ref in SOURCE.refs()]
    rows, expected = (pq.read_table(f / "data").sort_by("frame_id") for f in (tmp_path, whole))
    assert rows.equals(expected)
