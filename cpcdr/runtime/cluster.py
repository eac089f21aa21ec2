"""Mistakes in a cluster file that Ray's own validation lets pass, and the notice of spot machines.

``python -m cpcdr.runtime.cluster check cluster.yaml`` prints a sentence for each mistake and exits
with 2, or reports that it found none. Nothing is started and no network is used.

``python -m cpcdr.runtime.cluster watch HEAD:PORT`` runs on a spot machine of AWS: when its end is
announced it notifies Ray, two minutes ahead. Ray then schedules nothing more there, and a training
writes a checkpoint. Ray itself does not check for such notices.
"""

import copy
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import read_yaml
from cpcdr.runtime.errors import InputError, first_line

_PROVIDER_KEYS = {
    "aws": {
        *("type", "region", "availability_zone", "cache_stopped_nodes", "security_group"),
        *("key_pair", "use_internal_ips", "cloudwatch", "aws_credentials", "module"),
    },
    "gcp": {
        *("type", "region", "availability_zone", "project_id", "cache_stopped_nodes"),
        *("use_internal_ips", "gcp_credentials", "module"),
    },
    "local": {
        *("type", "head_ip", "external_head_ip", "worker_ips", "coordinator_address", "module")
    },
}
_NODES = ("head", "worker")
_AWS = "http://169.254.169.254"


def check(path: Path) -> list[str]:
    """A sentence with the remedy for every problem.

    Raises:
        InputError: the file cannot be read as YAML.
    """
    cluster = read_yaml(path)
    checks = (_ray, _provider, _mounts, _ports, _token, _pinned, _storage, _blanks)
    return [problem for one in checks for problem in one(cluster, path.parent)]


def _ray(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(cluster)))
    except Exception as error:  # jsonschema's, and whatever a provider's preparation raises
        yield f"Ray refuses it: {first_line(error)}"


def _provider(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    provider = cluster.get("provider") or {}
    keys = _PROVIDER_KEYS.get(provider.get("type", ""))
    for key in sorted(set(provider) - keys) if keys else ():
        yield f"provider.{key} is no setting of {provider['type']} and does nothing: correct it."


def _mounts(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    for target, source in (cluster.get("file_mounts") or {}).items():
        if not source.startswith("~") and not (folder / source).exists():
            yield f"file_mounts: {source} for {target} does not exist here."


def _commands(cluster: dict[str, Any], node: str) -> str:
    return " ".join(cluster.get(f"{node}_start_ray_commands") or [])


def _ports(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    head = _commands(cluster, "head")
    if "--head" not in head:
        yield (
            "head_start_ray_commands: there are none, and the default ones open the dashboard, "
            "which runs code, to the world: give them with --dashboard-host=127.0.0.1."
        )
    elif not re.search(r"--dashboard-host[= ](127\.0\.0\.1|localhost)", head):
        yield "head_start_ray_commands: add --dashboard-host=127.0.0.1; users tunnel to it."
    for node in _NODES:
        if "--ray-client-server-port" in _commands(cluster, node):
            yield (
                f"{node}_start_ray_commands: --ray-client-server-port opens a port that runs code: "
                "leave it out, scripts run on the head."
            )


def _options(cluster: dict[str, Any], node: str) -> str:
    docker = cluster.get("docker") or {}
    options = [*(docker.get("run_options") or []), *(docker.get(f"{node}_run_options") or [])]
    return " ".join([*options, _commands(cluster, node)])


def _token(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    for node in _NODES:
        if "RAY_AUTH_MODE=token" not in _options(cluster, node):
            yield f"{node}: authentication is off: set RAY_AUTH_MODE=token on every node."
    if not any("auth_token" in target for target in cluster.get("file_mounts") or {}):
        yield "file_mounts: ship ~/.ray/auth_token to the nodes (ray get-auth-token --generate)."


def _pinned(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    image = (cluster.get("docker") or {}).get("image", "")
    version = re.search(r":(\d+\.\d+\.\d+)", image)
    if image and not version:
        yield f"docker.image {image}: name a version of Ray, never nightly or latest."
    for command in cluster.get("setup_commands") or []:
        if "pip install" not in command:
            continue
        requirement = re.search(r"\bray(\[[^\]]*\])?(==[\d.]+)?(?=['\" ]|$)", command)
        if requirement and not requirement[2]:
            yield "setup_commands: pip may replace Ray: pin it with ==."
        elif requirement and version and requirement[2] != f"=={version[1]}":
            yield f"setup_commands: ray{requirement[2]} is not the image's {version[1]}."


def _storage(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    if not cluster.get("docker"):
        return
    volumes = {
        node: set(re.findall(r"(?:--volume|-v)[= ](\S+?):\S+", _options(cluster, node)))
        for node in _NODES
    }
    shared = volumes["head"] & volumes["worker"]
    if not shared:
        yield "docker: head and workers share no --volume: datasets and checkpoints need one."
    mounted = " ".join(cluster.get("initialization_commands") or [])
    for path in sorted(shared):
        if "mount" not in mounted or path not in mounted:
            yield f"initialization_commands: {path} is not mounted: every node has its own then."
    tracking = re.search(r"MLFLOW_TRACKING_URI=sqlite:///(/\S+)", _options(cluster, "head"))
    if tracking and not any(tracking[1].startswith(f"{path}/") for path in shared):
        yield f"MLFLOW_TRACKING_URI: {tracking[1]} is lost with the head: put it on shared storage."
    if "MLFLOW_TRACKING_URI=sqlite" in _options(cluster, "worker"):
        yield "workers: two machines must not write one SQLite file: set it for the head only."


def _blanks(cluster: dict[str, Any], folder: Path) -> Iterator[str]:
    for blank in sorted(set(re.findall(r"\S*FILL-IN\S*", str(cluster)))):
        yield f"{blank.strip(chr(39))}: fill this in."


def wait_for_notice(metadata: str = _AWS, every: float = 5.0) -> datetime:
    """Wait until AWS announces the end of this spot machine; the time of the end."""
    while (notice := _ask(f"{metadata}/latest/meta-data/spot/instance-action", metadata)) is None:
        time.sleep(every)
    return datetime.fromisoformat(json.loads(notice)["time"])


def _ask(url: str, metadata: str) -> str | None:
    """The answer of AWS's metadata service, version 2; None while there is no notice."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    ticket = urllib.request.Request(f"{metadata}/latest/api/token", headers=lifetime, method="PUT")
    try:
        with urllib.request.urlopen(ticket, timeout=5) as answer:
            shown = {"X-aws-ec2-metadata-token": answer.read().decode()}
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=shown), timeout=5
        ) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, TimeoutError):  # 404: no notice; else the service hiccups
        return None


def drain(head: str, node_id: str, end: datetime, why: str) -> None:
    """Tell the Ray cluster of ``head`` (HOST:PORT) that a node will be gone at ``end``.

    Raises:
        InputError: the cluster does not accept it.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    milliseconds = int(1000 * end.timestamp())
    accepted, why_not = GcsClient(address=head).drain_node(node_id, reason, why, milliseconds)
    if not accepted:
        raise InputError(f"{head}: the node {node_id} is not drained ({why_not}).")


def nodes_here(head: str) -> list[str]:
    """Ids of the cluster's living nodes on this machine; there is one, but for tests."""
    from ray._private.services import get_node_ip_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]

    address = get_node_ip_address(head)
    return [
        node_id.hex()
        for node_id, node in GcsClient(address=head).get_all_node_info(timeout=30).items()
        if node.state == GcsNodeInfo.ALIVE and node.node_manager_address == address
    ]


def watch(head: str) -> None:
    """Wait for this spot machine's end to be announced, and notify Ray."""
    end = wait_for_notice()
    for node_id in nodes_here(head):
        drain(head, node_id, end, "AWS takes this spot machine away")


def main(arguments: list[str]) -> int:
    """The command; its exit code."""
    match arguments:
        case ["check", file]:
            return _print_check(Path(file))
        case ["watch", head]:
            watch(head)
            return 0
    usage = "usage: python -m cpcdr.runtime.cluster check FILE.yaml\n"
    print(usage + "       python -m cpcdr.runtime.cluster watch HEAD:PORT", file=sys.stderr)
    return 2


def _print_check(path: Path) -> int:
    try:
        problems = check(path)
    except InputError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    if not problems:
        print(f"{path}: no mistake found; nothing was started.")
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
