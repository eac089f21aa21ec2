"""The MLflow server is killed in the middle of a training and comes back: no gaps, no doubles."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import test_engine_ray as tiny
from mlflow import MlflowClient

from cpcdr.runtime.tracking import run as tracking
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run
from cpcdr.train.config import EngineConfig
from cpcdr.train.engine import train

pytestmark = [pytest.mark.slow, pytest.mark.survival]


class Server:
    """``mlflow server`` on SQLite and loopback, all of whose processes can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = f"--host 127.0.0.1 --port {self.port} --workers 1"
        options += f" --backend-store-uri sqlite:///{self.folder / 'server.db'}"
        options += f" --artifacts-destination {self.folder / 'artifacts'}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options.split()],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the MLflow server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    found.start()
    found.wait()
    yield found
    found.kill()


def test_what_happened_meanwhile_is_delivered(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(tracking, "_FLUSH_SECONDS", 0.0)  # every line is sent at once
    monkeypatch.setattr(tracking, "_FIRST_RETRY_SECONDS", 0.5)  # a minute, for a server's minute
    out = tmp_path / "run"
    config = replace(tiny.CONFIG, log_every=1)
    delivered_before, waiting, journals = [], [], []

    def log(metrics: dict[str, float], step: int) -> None:
        if step == 8:
            server.kill()
        if step == 24:  # it is coming back: the training does not wait for it
            waiting.append(len(run._outbox.entries))
            journals.extend(out.glob("unsent-*.jsonl"))
            server.start()
            server.wait()
        run.metrics(metrics, step)
        if step < 8:
            delivered_before.append(not run._outbox.entries)

    with open_run(TrackingConfig(), "linear", "key", {"lr": config.lr}, out) as run:
        train(tiny.LinearTask(pause=0.02), config, EngineConfig("local"), out, log)
        run.text("note.txt", "the end")
    assert all(delivered_before) and waiting[0] > 16 and journals, "it was away, and noticed"

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    assert stored.info.status == "FINISHED"
    for name in ("loss", "lr"):
        points = client.get_metric_history(stored.info.run_id, name)
        assert sorted(point.step for point in points) == list(range(1, tiny.TOTAL + 1)), name
    assert [artifact.path for artifact in client.list_artifacts(stored.info.run_id)] == ["note.txt"]
    assert not list(out.glob("unsent-*")), "what was delivered is not kept"
