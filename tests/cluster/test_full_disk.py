"""The disk is full, or a quota used up, when a checkpoint is written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import test_engine_ray as tiny
import torch
from three_nodes import progress
from torch import Tensor, nn
from two_ranks import train_in_two_processes

from cpcdr.runtime.checkpoint import newest_checkpoint, read_checkpoint, read_state
from cpcdr.runtime.cli import main
from cpcdr.runtime.errors import InputError, no_room
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run
from cpcdr.train.config import EngineConfig
from cpcdr.train.engine import train

LOCAL = EngineConfig("local")
CONFIG = replace(tiny.CONFIG, checkpoint_every=5)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A quota: this process can write no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    # Python would leave byte code cut off at the quota beside what is imported meanwhile.
    byte_code, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = byte_code
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Quota(tiny.LinearTask):
    """After 12 steps nothing that is as large as a checkpoint's state fits the disk."""

    def batches(self, first: int, *where: Any) -> Iterator[dict[str, Tensor]]:
        for number, batch in enumerate(super().batches(first, *where), first):
            if number == tiny.PER_EPOCH + 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2600, -1))
            yield batch


def test_a_used_up_quota_is_one_sentence_and_costs_no_checkpoint(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(tiny.LinearTask(), CONFIG, LOCAL, whole)
    sentence = r"the checkpoint of step 15 cannot be written \(File too large\); make room"
    with largest_file(-1), pytest.raises(InputError, match=sentence):
        train(Quota(), CONFIG, LOCAL, out)
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None and newest.name == "step-00000010"
    read_checkpoint(newest, "linear"), read_state(newest)
    assert not list((out / "checkpoints").glob(".*")), "what was begun takes no room"
    train(tiny.LinearTask(), CONFIG, LOCAL, out)
    tiny.assert_same_run(out, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "disk", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_two_workers_stop_together_on_a_full_disk(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, ballast = small_disk / "run", small_disk / "ballast"

    def fill() -> None:
        deadline = time.monotonic() + 300
        # Between the checkpoints of steps 10 and 15: while one is written, what is free changes.
        while progress(out).get("step", 0) < 12 and time.monotonic() < deadline:
            time.sleep(0.02)
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes((free.f_bavail - 1) * free.f_bsize))  # one page is left

    thread = threading.Thread(target=fill)
    thread.start()
    alarms = train_in_two_processes(tiny.LinearTask(pause=0.1), CONFIG, out)
    thread.join()
    assert "cannot be written (No space left on device)" in alarms[0] and alarms[1]
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None
    read_checkpoint(newest, "linear"), read_state(newest)
    ballast.unlink()
    step = int(newest.name[-8:])
    train(tiny.LinearTask(), CONFIG, LOCAL, out)  # elastic: resumes with one worker and warns
    said = f"the first {step} steps had 2 workers, the next have 1: each sees 1/2 of the data"
    assert said in capsys.readouterr().out
    steps = [line for line, _ in tiny.losses(out)]
    assert steps == sorted(set(steps)) and steps[-1] == tiny.TOTAL


@dataclass(frozen=True)
class Nothing:
    """No option."""


def test_whatever_else_a_command_writes_it_ends_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["script"])
    file, before = tmp_path / "table", signal.getsignal(signal.SIGTERM)
    with largest_file(1000), pytest.raises(SystemExit) as left:
        main(Nothing, lambda _: {"written": file.write_bytes(bytes(5000))}, "")
    signal.signal(signal.SIGTERM, before)
    assert left.value.code == 2
    sentence = "error: file too large; make room and run the same command again to resume."
    assert capsys.readouterr().err.strip() == sentence
    wrapped = RuntimeError("RayTaskError\n  OSError: [Errno 28] No space left on device: '/a/b'\n")
    assert no_room(wrapped).startswith("/a/b: no space left on device; make room")
    assert no_room(FileNotFoundError(2, "No such file")) == ""


def test_a_full_disk_while_the_server_is_away_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # refuses at once
    with open_run(TrackingConfig(), "linear", "key", {}, tmp_path / "run") as run:
        with largest_file(100):
            for step in range(100):
                run.metrics({"loss": 1.0}, step)
            assert not run.flush()
        assert "cannot be written (File too large)" in caplog.text
    (journal,) = (tmp_path / "run").glob("unsent-*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    assert {line["step"] for line in lines if line["op"] == "metric"} == set(range(100))


class Huge(tiny.LinearTask):
    """A network of 40 TB, which is cheap as long as nobody computes with it."""

    def build(self) -> nn.Module:
        with torch.device("meta"):
            return nn.Linear(10**7, 10**6)


def test_a_run_that_cannot_be_stored_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    out = tmp_path / "run"
    adamw = replace(CONFIG, optimizer="adamw")
    # 10^13 float32 and a bias: 4e13 bytes; AdamW keeps two more of each.
    needs = r"3 checkpoints x \(38146976.5 MiB of weights \+ 76293952.9 .* need 381469764.7 MiB"
    with pytest.raises(InputError, match=needs):
        train(Huge(), adamw, LOCAL, out)
