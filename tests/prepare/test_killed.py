"""prepare.py killed at several moments: the same command completes the same dataset."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PREPARED_SCHEMA, read_table
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig

pytestmark = [pytest.mark.slow, pytest.mark.survival]

ROOT = Path(__file__).resolve().parents[2]
STREET = "synthetic:streets=6,frames=10,height=96,width=192,seed=3"
FRAMES, PART = 60, 3


def command(out: Path) -> list[str]:
    options = f"--frames {STREET} --frames-per-part {PART} --regions.superpixels 40000"
    script = [sys.executable, str(ROOT / "experiments" / "prepare.py"), "--out", str(out)]
    return [*script, *options.split(), "--workers", "2", "--tracking", "none"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of an uninterrupted preparation in one process."""
    out = tmp_path_factory.mktemp("whole") / "dataset"
    regions = RegionConfig(superpixels=40000)
    quiet = TrackingConfig("none")
    prepare(PrepareConfig(STREET, out=out, engine="local", regions=regions, tracking=quiet))
    return rows_of(out)


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Rows as the index finds them, in the order of their ids."""
    index = pq.read_table(out / LAYOUT.index).to_pylist()
    tables = {
        part: read_table(out, f"data/{part}", PREPARED_SCHEMA).to_pylist()
        for part in {entry["part"] for entry in index}
    }
    return [tables[entry["part"]][entry["row"]] for entry in index]


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    folder = out.with_name(out.name + ".partial") / "data"
    deadline = time.monotonic() + 600
    while len(list(folder.glob("[!.]*.parquet"))) < count:
        assert process.poll() is None, "prepare ended before it could be killed"
        assert time.monotonic() < deadline, "prepare made no progress"
        time.sleep(0.01)


def kill_actor(process: subprocess.Popen[bytes]) -> None:
    """An actor that prepares frames dies; prepare recovers by itself."""
    workers = [
        child.pid
        for child in psutil.Process(process.pid).children(recursive=True)
        if "MapWorker" in child.name() or "MapWorker" in " ".join(child.cmdline())
    ]
    assert workers, "no actor is running"
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(timeout=900) == 0


def check(out: Path, whole: list[dict[str, Any]]) -> None:
    rows = rows_of(out)
    assert [row["frame_id"] for row in rows] == [row["frame_id"] for row in whole]
    assert rows == whole, "row by row, every column"
    assert len(rows) == FRAMES


def test_a_driver_killed_twice_loses_and_doubles_nothing(
    tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    out, data = tmp_path / "dataset", tmp_path / "dataset.partial" / "data"
    for parts in (1, 8):
        process = start(out)
        wait_for_parts(out, parts, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists(), "an unfinished dataset has another name"
    done = len(list(data.glob("[!.]*.parquet")))
    again = subprocess.run(command(out), capture_output=True, text=True, check=True, timeout=900)
    found = re.search(r"(\d+) frames are done already", again.stdout)
    assert found is not None and int(found[1]) >= done * PART
    check(out, whole)


def test_a_killed_actor_loses_and_doubles_nothing(
    tmp_path: Path, whole: list[dict[str, Any]]
) -> None:
    out = tmp_path / "dataset"
    process = start(out)
    wait_for_parts(out, 3, process)
    kill_actor(process)
    check(out, whole)
