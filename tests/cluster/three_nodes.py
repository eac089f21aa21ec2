"""Three logical nodes on this machine: a head without CPUs, as in cluster.yaml, and two workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil

from cpcdr.runtime.cluster import drain, nodes_here
from cpcdr.runtime.session import close_to_others

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
# A lost node is noticed after seconds; the defaults take half a minute.
_SYSTEM = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 2,
}


class Nodes:
    """A cluster whose drivers are processes of their own, as a user's commands are."""

    def __init__(self) -> None:
        close_to_others()
        from ray.cluster_utils import Cluster

        self.cluster = _patiently(
            lambda: Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "include_dashboard": True,  # without, Tune's stopped trials keep their place
                    "dashboard_host": "127.0.0.1",
                    "dashboard_port": None,  # any that is free
                    "object_store_memory": 100 * 2**20,
                    "_system_config": _SYSTEM,
                },
            )
        )

    @property
    def workers(self) -> list[Any]:
        """The worker nodes, oldest first."""
        return sorted(self.cluster.worker_nodes, key=lambda node: node._plasma_store_socket_name)

    def fill(self, cpus: int = 1) -> None:
        """Two worker nodes of so many CPUs, whatever an earlier test left."""
        for node in list(self.cluster.worker_nodes):
            if node.get_resource_and_label_spec().num_cpus != cpus:
                self.cluster.remove_node(node)
        while len(self.cluster.worker_nodes) < 2:
            self.add(cpus)

    def add(self, cpus: int = 1) -> None:
        """One worker node more."""
        memory = 100 * 2**20
        _patiently(lambda: self.cluster.add_node(num_cpus=cpus, object_store_memory=memory))

    def kill(self, node: Any) -> None:
        """SIGKILL all processes of a node, with the workers that run on it."""
        workers = pids_of_node(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for pid in workers:  # the machine is gone, not only its raylet
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def announce_the_end_of(self, node: Any, seconds: float = 60) -> None:
        """What `cpcdr.runtime.cluster.watch` does on a spot machine."""
        assert node.node_id in nodes_here(self.cluster.address)
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        drain(self.cluster.address, node.node_id, end, "the spot price rose")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A driver on the head."""
        return subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | {"RAY_ADDRESS": self.cluster.address} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _patiently(start: Callable[[], T]) -> T:
    """Once more if a node was not up after Ray's fixed 30 seconds: the machine was busy."""
    try:
        return start()
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        return start()


def pids_of_node(node: Any) -> list[int]:
    """Worker processes of a node: the children of its raylet."""
    (raylet,) = node.all_processes["raylet"]
    return [child.pid for child in psutil.Process(raylet.process.pid).children(recursive=True)]


def node_of(pid: int, nodes: list[Any]) -> Any:
    """The node that a worker process belongs to."""
    (found,) = (node for node in nodes if pid in pids_of_node(node))
    return found


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float) -> Any:
    """The condition's value once it is true, while the process runs."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if process.poll() is not None:
            raise AssertionError(f"it ended too early:\n{process.communicate()[0][-3000:]}")
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.02)
    return value


def finished(process: subprocess.Popen[str], seconds: float = 600) -> str:
    """What the process printed, once it has ended well."""
    try:
        printed = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"it hangs:\n{process.communicate()[0][-3000:]}") from None
    assert process.returncode == 0, printed[-3000:]
    return printed


def progress(out: Path) -> dict[str, Any]:
    """Where a training is; empty before its first line."""
    try:
        return json.loads((out / "progress.json").read_text())
    except (OSError, ValueError):
        return {}
