"""Trainings whose process was killed: what every command that takes a network makes of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import cpcdr
from cpcdr.commands import config_of, function_of
from cpcdr.runtime.cli import parse
from cpcdr.runtime.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.survival]

ROOT = Path(__file__).resolve().parents[2]
STREET = "synthetic:streets=4,frames=4,height=64,width=128,seed=7"
FRAMES = f"--frames {STREET}"
ENDLESS = "--engine local --tracking none --train.steps 4000 --train.log-every 1"
TRAININGS = {
    "pretrain": "--data data --frames-per-item 2 --model.width 8 --model.prototypes 32 "
    "--model.head-channels 32 --loss.pixel-points 50 --loss.region-points 50",
    "train-depth": f"{FRAMES} --depth.height 64 --depth.width 128 --preset scratch",
}


def call(command: str, options: str) -> dict[str, Any]:
    """The result of a command in this process."""
    name = command.replace("-", "_")
    return dict(function_of(name)(parse(config_of(name), "", options.split())))


def killed(folder: Path, command: str, every: int, reached: Callable[[Path], bool]) -> None:
    """A training in ``folder / command``, with a checkpoint every so many steps, killed."""
    options = f"{TRAININGS[command]} {ENDLESS} --train.checkpoint-every {every} --out {command}"
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cpcdr", command, *options.split()],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 300
    while not reached(folder / command):
        assert process.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline, "the training made no progress"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def has_two_checkpoints(out: Path) -> bool:
    return len([*out.glob("checkpoints/step-*")]) >= 2


def has_progress(out: Path) -> bool:
    return (out / "progress.json").exists()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with trainings that were killed, and in ``early`` before their first checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    out = f"--engine local --tracking none --regions.superpixels 2000 --out {folder / 'data'}"
    call("prepare", f"{FRAMES} {out}")
    early = folder / "early"
    early.mkdir()
    (early / "data").symlink_to(folder / "data")
    for command in TRAININGS:
        killed(folder, command, 2, has_two_checkpoints)
        killed(early, command, 4000, has_progress)
    return folder


def uses(trained: Path) -> dict[str, str]:
    """Options of commands that take the network of a pre-training."""
    local = "--engine local --tracking none"
    return {
        "segment": f"--network {trained} {FRAMES} --engine local --out segmented.mp4",
        "evaluate": f"--network {trained} {FRAMES} {local} --out evaluated",
        "probe": f"--network {trained} {FRAMES} --evaluate {STREET} --tracking none --out probed",
        "finetune": f"--network {trained} {FRAMES} {local} --evaluate {STREET} --out finetuned "
        "--finetune.size 64 128 --train.steps 2",
        "export": f"--network {trained} --out model.onnx",
    }


def uses_of_depth(trained: Path) -> dict[str, str]:
    """Options of commands that take a depth network."""
    depth = f"--depth network:{trained} {FRAMES} --tracking none"
    return {
        "evaluate-depth": f"{depth} --out measured",
        "evaluate-regions": f"{depth} --out regions",
        "prepare": f"{depth} --allow-poor-depth --engine local --regions.superpixels 2000 --out d",
    }


@pytest.mark.parametrize("where", ["", "checkpoint"])
def test_the_newest_checkpoint_is_used(
    interrupted: Path,
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = uses(interrupted / "pretrain" / where)
    commands |= uses_of_depth(interrupted / "train-depth" / where)
    for command, options in commands.items():
        if command == "export" and not find_spec("onnx"):
            continue
        call(command, options)
        said = [line for line in capsys.readouterr().out.splitlines() if "stopped at step" in line]
        training = "train-depth" if "--depth" in options else "pretrain"
        assert len(said) == 1 and "of 4000" in said[0], (command, said)
        assert f"run the same cpcdr {training} command again" in said[0]
    assert cpcdr.load(interrupted / "pretrain" / where).names[0] == "cluster 0"


def test_what_used_it_resumes_after_the_training_went_on(
    interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dataset names the copy that it was made with."""
    own = tmp_path / "train-depth"
    shutil.copytree(interrupted / "train-depth", own)
    options = uses_of_depth(own)["prepare"].replace("--out d", f"--out {tmp_path / 'data'}")
    first = call("prepare", options)
    used = next((own / "snapshots").iterdir())
    for old in (own / "checkpoints").iterdir():
        shutil.rmtree(old)
    again = call("prepare", options.replace(f"network:{own}", f"network:{used}"))
    assert (again["hash"], again["reused_frames"]) == (first["hash"], first["frames"])


def test_before_the_first_checkpoint_there_is_a_sentence(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    early = interrupted / "early"
    for command, options in (
        uses(early / "pretrain") | uses_of_depth(early / "train-depth")
    ).items():
        training = "train-depth" if "--depth" in options else "pretrain"
        words = (
            f"stopped at step .* of 4000 and has no checkpoint yet: run the same cpcdr {training}"
        )
        with pytest.raises(InputError, match=words):
            call(command, options)
    assert not list(tmp_path.rglob("*.partial"))
