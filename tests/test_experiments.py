"""The scripts as a user runs them: exit codes, sentences, last lines."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[1]
STREET = "synthetic:streets=4,frames=4,height=64,width=128,seed=7"
RESULT_KEYS = {
    *("protocol", "miou", "accuracy", "untrained_miou", "colour_miou", "frames"),
    *("regions_per_frame", "loss_over_lnK", "run_id", "dataset", "checkpoint", "config_hash"),
}


@cache
def without_network() -> list[str]:
    """What starts a command that no network reaches; nothing where only root may do that."""
    command = ["unshare", "--net", "bash", "-c", 'ip link set lo up && exec "$@"', "bash"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True)
    except FileNotFoundError:
        return []
    return [] if done.returncode else command


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "experiments" / f"{script}.py"), *arguments]
    return subprocess.run(
        [*without_network(), *command],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
        capture_output=True,
        text=True,
        timeout=1100,
    )


def result(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr[-3000:]
    last = finished.stdout.strip().splitlines()[-1]
    assert last.startswith("RESULT ")
    return json.loads(last.removeprefix("RESULT "))


@pytest.mark.slow
def test_the_chain_runs_resumes_and_records(tmp_path: Path) -> None:
    arguments = ["--frames", STREET, "--depth", "ground-truth", "--size", "64", "128"]
    arguments += ["--evaluate", STREET, "--steps", "3"]
    first = result(run("demo", *arguments, cwd=tmp_path))
    assert set(first) >= RESULT_KEYS
    assert first["protocol"] == "synthetic" and first["frames"] == 16
    assert 0 < first["miou"] < 1 and first["loss_over_lnK"] < 1.2
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "cpcdr")
    runs = {r.data.tags["cpcdr.kind"]: r for r in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"prepare", "pretrain", "evaluate"}
    assert all(r.info.status == "FINISHED" for r in runs.values())
    assert runs["evaluate"].data.metrics["miou"] == pytest.approx(first["miou"])
    assert runs["pretrain"].data.params["model.prototypes"] == "200"
    history = client.get_metric_history(runs["pretrain"].info.run_id, "loss")
    assert [point.step for point in history] == [3]
    assert runs["pretrain"].info.run_name == "pretrain resnet18 · synthetic · 3 steps"
    figures = {f.path for f in client.list_artifacts(runs["pretrain"].info.run_id, "figures")}
    assert figures == {"figures/mosaic.png", "figures/features.png"}
    # The same command again does nothing again, and says the same.
    again = result(run("demo", *arguments, cwd=tmp_path))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert len(client.search_runs([experiment.experiment_id])) == 3
    trained = ["--network", first["checkpoint"], "--frames", STREET, "--evaluate", STREET]
    probed = result(run("probe", *trained, cwd=tmp_path))
    assert {"linear_ridge", "untrained_knn", "prototype_purity"} <= probed.keys()
    arguments = ["--network", first["checkpoint"], "--frames", STREET, "--engine", "local"]
    scored = run("evaluate", *arguments, cwd=tmp_path)
    assert result(scored)["miou"] == pytest.approx(first["miou"])
    assert "majority vote of each prototype" in scored.stdout
    arguments = ["--network", first["checkpoint"], "--frames", STREET, "--clusters", "5"]
    assert result(run("segment", *arguments, "--out", "a.mp4", cwd=tmp_path))["frames"] == 16
    assert sorted(path.name for path in tmp_path.glob("a*")) == ["a-legend.png", "a.mp4"]


@pytest.mark.parametrize(
    ("script", "arguments", "word"),
    [
        ("prepare", ["--frames", "video:missing.mp4"], "missing.mp4"),
        ("prepare", ["--frames", "video:torn.mp4", "--depth", "network:nothing"], "torn.mp4"),
        ("prepare", ["--frames", "kitti-odometry:."], "kitti-odometry"),
        ("pretrain", ["--data", "nothing"], "nothing"),
        ("evaluate", ["--network", "nothing"], "nothing"),
        ("evaluate", ["--size", "7", "9"], "--size 7 9"),
        ("evaluate", ["--engine", "foo"], "--engine"),
        ("probe", ["--network", "nothing"], "nothing"),
        ("probe", ["--size", "-5", "9"], "--size -5 9"),
        ("demo", ["--frames", "images:."], "images:."),
        ("train_depth", ["--frames", "synthetic:streets=1,frames=2"], "synthetic"),
        ("tune_regions", ["--trials", "0"], "--trials"),
        ("tune_regions", ["--space", "missing.yaml"], "missing.yaml"),
        ("tune_pretrain", ["--scheduler", "bohb"], "--scheduler"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    script: str,
    arguments: list[str],
    word: str,
) -> None:
    """The script itself, but in this process: its imports take longer than all else."""
    (tmp_path / "torn.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    monkeypatch.chdir(tmp_path)
    path = str(ROOT / "experiments" / f"{script}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments, "--tracking", "none"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(path, run_name="__main__")
    signal.signal(signal.SIGTERM, before)
    assert left.value.code == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in err and "RESULT" not in out
    (sentence,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert word in sentence
