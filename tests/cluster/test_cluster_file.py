"""The cluster file passes Ray's own validation and keeps what it promises."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


def run_options(cluster: dict[str, Any], node: str) -> str:
    docker = cluster["docker"]
    return " ".join(docker["run_options"] + docker.get(f"{node}_run_options", []))


def start(cluster: dict[str, Any], node: str) -> str:
    return " ".join(cluster[f"{node}_start_ray_commands"])


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_would_reject_a_typo(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepare_config({**copy.deepcopy(cluster), "setup_comands": []}))


def test_provider_and_file_mounts_which_ray_does_not_check(cluster: dict[str, Any]) -> None:
    known = {"type", "region", "availability_zone", "cache_stopped_nodes"}
    assert set(cluster["provider"]) == known
    zones = cluster["provider"]["availability_zone"].split(",")
    assert all(zone.startswith(cluster["provider"]["region"]) for zone in zones)
    for source in cluster["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).exists()


def test_ray_is_pinned_to_the_tested_version(cluster: dict[str, Any]) -> None:
    image, install = cluster["docker"]["image"], " ".join(cluster["setup_commands"])
    pinned = image.split(":")[1].split("-")[0]
    assert pinned.split(".")[:2] == ray.__version__.split(".")[:2]
    assert "-py311" in image
    assert f"]=={pinned}" in install, "pip must not replace the image's Ray"
    assert "nightly" not in image
    assert "latest" not in image


def test_dashboard_is_on_loopback(cluster: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in start(cluster, "head")
    for node in ("head", "worker"):
        assert "0.0.0.0" not in start(cluster, node)
        assert "--ray-client-server-port" not in start(cluster, node)


@pytest.mark.parametrize("node", ["head", "worker"])
def test_every_node_wants_the_token_and_has_the_shared_folder(
    cluster: dict[str, Any], node: str
) -> None:
    assert "RAY_AUTH_MODE=token" in run_options(cluster, node)
    assert "/shared:/shared" in run_options(cluster, node)
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    # Initialization commands have no head or worker variant: every node runs them.
    assert any("mount" in c and "/shared" in c for c in cluster["initialization_commands"])


def test_workers_are_spot_and_come_on_demand(cluster: dict[str, Any]) -> None:
    workers = [n for k, n in cluster["available_node_types"].items() if k != "head"]
    assert workers
    for worker in workers:
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"], "the head must not be taken away"


def test_the_head_records_on_shared_storage_and_scripts_join_the_cluster(
    cluster: dict[str, Any],
) -> None:
    assert "MLFLOW_TRACKING_URI=sqlite:////shared/" in run_options(cluster, "head")
    assert "RAY_ADDRESS=auto" in run_options(cluster, "head")
    # Two machines must not write one SQLite file.
    assert "MLFLOW_TRACKING_URI" not in run_options(cluster, "worker")


def test_the_code_is_shipped_without_history(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["/home/ray/cpcdr"] == "."
    assert "/home/ray/cpcdr" in " ".join(cluster["setup_commands"])
    assert "**/.git" in cluster["rsync_exclude"]
    assert cluster["rsync_filter"] == [".gitignore"]
