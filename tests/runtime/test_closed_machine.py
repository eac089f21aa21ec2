"""A local session is open to its own user alone, also from an address of the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "198.51.100.7"  # of the addresses for documentation; in a namespace of the test's own
_NETWORK = f"""set -e
ip link set lo up
ip link add outside type veth peer name beyond
ip link set beyond up
ip addr add {ADDRESS}/24 dev outside
ip link set outside up
ip route add default dev outside
hostname {ADDRESS}
exec "$@"
"""


def in_a_namespace(*command: str) -> list[str]:
    own = ["unshare", "--net", "--uts", "--fork", "--kill-child"]
    return [*own, "bash", "-c", _NETWORK, "bash", *command]


@pytest.mark.slow
def test_nothing_listens_beyond_loopback_and_nothing_runs_without_the_token(tmp_path: Path) -> None:
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs unshare and ip (util-linux, iproute2)")
    if subprocess.run(in_a_namespace("true"), capture_output=True).returncode:
        pytest.skip("only root can make a network namespace with an interface")
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    script = str(ROOT / "tests" / "runtime" / "closed_machine.py")
    done = subprocess.run(
        in_a_namespace(sys.executable, script, ADDRESS, str(tmp_path)),
        env={**keep, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, address, port in found["sockets"]:
        print(f"{name:20} {address}:{port}")
    assert {name for name, _, _ in found["sockets"]} >= {"gcs_server", "raylet"}
    assert len(found["sockets"]) >= 6
    assert {address for _, address, _ in found["sockets"]} == {"127.0.0.1"}
    for name, address, port in found["training"]:
        print(f"{name:40} {address}:{port}")
    assert any("RayTrainWorker" in name for name, _, _ in found["training"])
    assert {address for _, address, _ in found["training"]} == {"127.0.0.1"}
    outside = [answer for url, answer in found["answers"].items() if ADDRESS in url]
    assert outside and all(answer.startswith("no answer") for answer in outside)
    inside = [answer for url, answer in found["answers"].items() if ADDRESS not in url]
    assert "refused: 401" in inside and not any(a.startswith("accepted") for a in inside)
    assert set(found["joins"].values()) == {"refused"}
    assert not found["ran"], "a command without the token ran"
    assert found["works"], "the session's own process runs tasks"
    assert found["token"] == "600 in 700"
    assert found["home"] == [], "no token is written into the user's home"
    assert "RAY_AUTH" not in done.stderr and "logging.cc" not in done.stderr
