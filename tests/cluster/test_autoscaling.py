"""GPU machines come when work waits for them and go when they are idle, by Ray's own autoscaler.

Ray's fake provider starts a logical node where a cloud's would rent a machine; all else, from the
demand that the autoscaler sees to the idle time after which it ends a node, is the real thing. The
kinds of nodes and the idle time are those of cluster.yaml, but for what AWS says of an instance.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from three_nodes import ROOT, finished

from cpcdr.dataset import LAYOUT
from cpcdr.runtime.session import close_to_others

pytestmark = [pytest.mark.slow, pytest.mark.survival]

_FAKE_HEAD = "ray.head.default"  # the name that the fake provider gives the head


def fake_file(cluster: dict[str, Any], gcs_address: str) -> dict[str, Any]:
    """The cluster file for the fake provider, with seconds instead of minutes of idle time."""
    worker = cluster["available_node_types"]["gpu_worker"]
    return {
        "cluster_name": cluster["cluster_name"],
        "max_workers": cluster["max_workers"],
        "upscaling_speed": cluster["upscaling_speed"],
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": gcs_address,
            "use_node_id_as_ip": True,  # its nodes share this machine's address
            "disable_node_updaters": True,  # and its software
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            _FAKE_HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu_worker": {
                "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 80 * 2**20},
                "node_config": {},
                "min_workers": worker["min_workers"],
                "max_workers": worker["max_workers"],
            },
        },
        "head_node_type": _FAKE_HEAD,
        # What `ray up` fills in; the fake provider copies and runs nothing.
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        **{f"{name}_commands": [] for name in ("initialization", "setup")},
        **{f"{node}_setup_commands": [] for node in ("head", "worker")},
        **{f"{node}_start_ray_commands": [] for node in ("head", "worker")},
        "file_mounts_sync_continuously": False,
    }


@pytest.fixture
def scaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs and GPUs, and the autoscaler; no worker yet."""
    import ray._private.services as services

    close_to_others()
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_FAKE_CLUSTER", "1")
    monkeypatch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"{services.get_node_ip_address()}:{port}"
    file = tmp_path / "fake.yaml"
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    file.write_text(json.dumps(fake_file(cluster, address)))
    head = {"num_cpus": 0, "gcs_server_port": port, "autoscaling_config": str(file)}
    found = Cluster(
        initialize_head=True,
        head_node_args={**head, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    (monitor,) = found.head_node.all_processes["monitor"]
    yield found
    # The nodes are the autoscaler's children, which nobody else would end.
    processes = psutil.Process(monitor.process.pid).children(recursive=True)
    found.shutdown()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def gpu_nodes(cluster: Any) -> int:
    """Living nodes that have a GPU."""
    nodes = cluster.global_state.node_table()
    return sum(node["Alive"] and node["Resources"].get("GPU", 0) == 1 for node in nodes)


def test_gpu_machines_come_with_work_and_go_without(scaling: Any, tmp_path: Path) -> None:
    assert gpu_nodes(scaling) == 0
    out = tmp_path / "dataset"
    options = "--frames synthetic:streets=4,frames=6,height=64,width=128 --workers 1 --gpus 2"
    script = [sys.executable, str(ROOT / "experiments" / "prepare.py"), "--out", str(out)]
    process = subprocess.Popen(
        [*script, *options.split(), "--frames-per-part", "2", "--tracking", "none"],
        env=os.environ | {"RAY_ADDRESS": scaling.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    most = 0
    while process.poll() is None:
        most = max(most, gpu_nodes(scaling))
        time.sleep(0.2)
    printed = finished(process)
    assert "1 actors x 0.5 CPUs + 1 GPUs do not fit" in printed, "the wait was explained"
    assert json.loads((out / LAYOUT.manifest).read_text())["frames"] == 24
    assert 1 <= most <= 4
    deadline = time.monotonic() + 200
    while gpu_nodes(scaling) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert gpu_nodes(scaling) == 0, "idle machines are given back"
