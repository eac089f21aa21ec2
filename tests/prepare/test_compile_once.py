"""The first block of a run on a machine is alone; those that follow do not wait."""

from __future__ import annotations

import multiprocessing as mp
import time
from pathlib import Path

import pytest

from cpcdr.prepare.compile_once import first_alone, if_nobody_else


def stay(run: str, folder: Path, seconds: float) -> None:
    with first_alone(run):
        begun = time.monotonic()
        time.sleep(seconds)
        (folder / f"{mp.current_process().pid}").write_text(f"{begun} {time.monotonic()}")


def intervals(folder: Path) -> list[tuple[float, float]]:
    return sorted(tuple(map(float, f.read_text().split())) for f in folder.iterdir())  # type: ignore[misc]


@pytest.fixture
def lock_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lock").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "lock"))
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


@pytest.mark.slow
def test_the_first_is_alone_and_the_others_are_not(lock_in: Path) -> None:
    processes = [
        mp.get_context("fork").Process(target=stay, args=("run", lock_in, 0.4)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    first, second, third = intervals(lock_in)
    assert second[0] >= first[1], "nobody begins before the first has ended"
    assert third[0] < second[1], "the others run side by side"


def test_a_run_that_dies_does_not_block_the_next(lock_in: Path) -> None:
    process = mp.get_context("fork").Process(target=stay, args=("run", lock_in, 60.0))
    process.start()
    time.sleep(0.3)
    process.kill()
    process.join()
    start = time.monotonic()
    with first_alone("run"):
        assert time.monotonic() - start < 5.0


def test_nobody_waits_for_what_another_process_does(lock_in: Path) -> None:
    with if_nobody_else("regions") as mine:
        assert mine
        with if_nobody_else("regions") as again, if_nobody_else("frames") as other:
            assert not again and other
    with if_nobody_else("regions") as mine:
        assert mine
