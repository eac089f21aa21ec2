"""Each mistake in a cluster file is found, and the project's own file has only its blank."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from cpcdr.runtime.cluster import _ask, check, main, wait_for_notice

ROOT = Path(__file__).resolve().parents[2]
GOOD = (ROOT / "cluster.yaml").read_text(encoding="utf-8").replace("fs-FILL-IN", "fs-0123")


def write(tmp_path: Path, cluster: dict[str, Any] | str) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(cluster if isinstance(cluster, str) else yaml.safe_dump(cluster))
    return path


def test_our_own_file_has_one_blank() -> None:
    (problem,) = check(ROOT / "cluster.yaml")
    assert "FILL-IN" in problem and "fill this in" in problem


def test_filled_in_it_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD)
    assert check(path) == []
    assert main(["check", str(path)]) == 0
    assert "no mistake found" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "missing.yaml")]) == 2
    assert main([]) == 2


def _docker(key: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(cluster: dict[str, Any]) -> None:
        docker = cluster["docker"]
        value = docker[key]
        docker[key] = (
            value.replace(old, new)
            if isinstance(value, str)
            else [option.replace(old, new) for option in value]
        )

    return change


def _commands(key: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(cluster: dict[str, Any]) -> None:
        cluster[key] = [command.replace(old, new) for command in cluster[key]]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(setup_comands=[]), "setup_comands"),
        (lambda c: c["provider"].update(regoin="x"), "provider.regoin"),
        (lambda c: c["file_mounts"].update({"/x": "nowhere"}), "nowhere for /x"),
        (lambda c: c.pop("head_start_ray_commands"), "open the dashboard"),
        (_commands("head_start_ray_commands", "127.0.0.1", "0.0.0.0"), "add --dashboard-host"),
        (
            _commands("head_start_ray_commands", "--head", "--head --ray-client-server-port=10001"),
            "runs code",
        ),
        (_docker("run_options", "RAY_AUTH_MODE=token", "X=1"), "authentication is off"),
        (lambda c: c["file_mounts"].pop("/home/ray/.ray/auth_token"), "auth_token"),
        (_docker("image", "2.60.0", "nightly"), "never nightly"),
        (_commands("setup_commands", "==2.60.0", ""), "pin it"),
        (_commands("setup_commands", "==2.60.0", "==2.59.0"), "is not the image's"),
        (_docker("run_options", "--volume /shared:/shared", ""), "share no --volume"),
        (lambda c: c.update(initialization_commands=[]), "is not mounted"),
        (_docker("head_run_options", "/shared/mlflow.db", "/tmp/mlflow.db"), "lost with the head"),
        (
            lambda c: c["docker"].update(
                worker_run_options=["--env MLFLOW_TRACKING_URI=sqlite:////shared/mlflow.db"]
            ),
            "two machines",
        ),
    ],
)
def test_each_mistake_is_found(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    cluster = copy.deepcopy(yaml.safe_load(GOOD))
    change(cluster)
    problems = check(write(tmp_path, cluster))
    assert any(words in problem for problem in problems), problems


class _Metadata(BaseHTTPRequestHandler):
    """AWS's metadata service, version 2, which has nothing to say at first."""

    def do_PUT(self) -> None:
        self._answer("ticket" if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else None)

    def do_GET(self) -> None:
        assert self.path == "/latest/meta-data/spot/instance-action"
        asked.append(self.headers["X-aws-ec2-metadata-token"])
        action = {"action": "terminate", "time": "2026-11-23T09:12:00Z"}
        self._answer(json.dumps(action) if len(asked) > 2 else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        pass


asked: list[str] = []


def test_the_notice_of_a_spot_machine_is_waited_for() -> None:
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        end = wait_for_notice(f"http://127.0.0.1:{server.server_port}", every=0.01)
        server.shutdown()
    assert end == datetime(2026, 11, 23, 9, 12, tzinfo=UTC)
    assert asked == ["ticket"] * 3


def test_a_service_that_is_away_is_asked_again() -> None:
    assert _ask("http://127.0.0.1:9/x", "http://127.0.0.1:9") is None


def test_spot_workers_watch_for_their_notice() -> None:
    commands = yaml.safe_load(GOOD)["worker_start_ray_commands"]
    assert "python -m cpcdr.runtime.cluster watch $RAY_HEAD_IP:6379" in commands[-1]
    assert commands[-1].endswith("&") and "ray start" in commands[-2]
