"""The whole process of a pre-training killed in the middle, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from cpcdr.commands.prepare import prepare
from cpcdr.commands.pretrain import pretrain
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.cli import parse
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig
from cpcdr.train.history import read_history

pytestmark = [pytest.mark.slow, pytest.mark.survival]

ROOT = Path(__file__).resolve().parents[2]
STEPS, KILLED_AT = 24, 9
OUTS = ("whole", "killed")


def command(data: Path, out: str) -> list[str]:
    script = str(ROOT / "experiments" / "pretrain.py")
    sizes = "--frames-per-item 2 --model.width 8 --model.prototypes 16 --model.head-channels 32"
    points = "--loss.pixel-points 50 --loss.region-points 50"
    train = f"--train.steps {STEPS} --train.checkpoint-every 5 --train.log-every 2"
    options = f"{sizes} {points} {train} --workers 2 --cpus-per-worker 0.5"
    return [sys.executable, script, "--data", str(data), "--out", out, *options.split()]


def wait_for_step(progress: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, "the training ended before it could be killed"
        try:
            if json.loads(progress.read_text())["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    raise AssertionError("the training made no progress")


def test_a_killed_driver_goes_on_where_it_was_bit_by_bit(
    tmp_path: Path, ray_local: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    prepare(
        PrepareConfig(
            frames="synthetic:streets=4,frames=4,height=64,width=128",
            out=data,
            engine="local",
            regions=RegionConfig(superpixels=2000),
            tracking=TrackingConfig(tracking="none"),
        )
    )
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    monkeypatch.chdir(tmp_path)
    pretrain(parse(PretrainConfig, "", command(data, "whole")[2:]))

    first = subprocess.Popen(command(data, "killed"), cwd=tmp_path, env=environment)
    wait_for_step(tmp_path / "killed" / "progress.json", KILLED_AT, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "killed" / "checkpoint").exists()
    subprocess.run(command(data, "killed"), cwd=tmp_path, env=environment, check=True, timeout=900)

    whole, again = (load_file(tmp_path / n / "checkpoint/model.safetensors") for n in OUTS)
    assert whole.keys() == again.keys()
    assert all(value.equal(again[name]) for name, value in whole.items())

    histories = [read_history(tmp_path / name / "history.jsonl") for name in OUTS]
    assert [row["loss"] for row in histories[0]] == [row["loss"] for row in histories[1]]
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2, "the killed command and its repetition are one run"
    expected = [row["step"] for row in histories[0]]
    for run in runs:
        assert run.info.status == "FINISHED"
        points = client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in points] == expected
