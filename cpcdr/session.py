"""Connecting to Ray: a private local instance on one machine, or the cluster that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cpcdr.errors import InputError

_LOCAL_ENVIRONMENT = {
    # A private local instance on loopback needs no token; clusters get theirs from cluster.yaml.
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ side writes hints to our standard error
    "RAY_TRAIN_V2_ENABLED": "1",
}


def logical_cpus() -> int:
    """CPUs that a local Ray is started with.

    At least four: with two, the two training workers hold both and Ray Data's reader never runs.
    """
    return max(4, os.cpu_count() or 1)


def on_cluster() -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster; its machines may come only when asked for."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def ray_session(dashboard: bool = False) -> Iterator[None]:
    """Ray for the duration of a command; nested use shares the outer session.

    Joins the cluster of ``RAY_ADDRESS`` where that is set (``ray job submit`` sets it), else starts
    a local instance that listens on loopback only and is shut down at the end.

    Args:
        dashboard: Tune with early stopping needs it (without, stopped trials leak resources).

    Raises:
        InputError: the address of ``RAY_ADDRESS`` does not answer.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    for key, value in (_QUIET_ENVIRONMENT | ({} if address else _LOCAL_ENVIRONMENT)).items():
        os.environ.setdefault(key, value)
    import ray

    if ray.is_initialized():
        yield
        return
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    try:
        if address:
            ray.init(address=address, **common)
        else:
            ray.init(
                address="local",  # never a stale address file's dead cluster
                num_cpus=logical_cpus(),
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                **common,
            )
    except ConnectionError as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start one with "
            "'ray up cluster.yaml', or unset RAY_ADDRESS to run on this machine."
        ) from error
    _quiet_ray_data()
    try:
        yield
    finally:
        ray.shutdown()


def _quiet_ray_data() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # cpcdr draws one bar of its own, in frames
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
