"""Connecting to Ray: a private local instance on one machine, or the cluster that is there."""

import atexit
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil

from cpcdr.runtime.config import read_yaml
from cpcdr.runtime.errors import InputError, first_line
from cpcdr.runtime.progress import phase

_SILENT: dict[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "configure_logging": False,
}
_START_LIMITS_S = (90, 240)
"""For a node to come up; Ray's own 30 s are too few on a busy machine."""

Machines = list[tuple[Mapping[str, float], int]]
"""Kinds of machines: the resources of one, and how many there are or may come."""

_OBJECT_STORE = 75 * 2**20  # Ray's minimum
_OBJECT_STORE_FRACTION = 0.3  # of the free memory, Ray's default

_CLOSED_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # without it, whoever reaches a port runs commands as this user
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on 127.0.0.1, as Ray does on laptops
}
"""What keeps a local Ray to its own user; set regardless of the user's environment."""

_LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
_SHOWING_ENVIRONMENT = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
"""What the dashboard's page of trainings needs."""
_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ side writes hints to our standard error
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in workers and trials
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
def ray_session(dashboard: bool = False, head_server: bool = False) -> Iterator[None]:
    """Ray for the duration of a command; nested use shares the outer session.

    Joins the cluster of ``RAY_ADDRESS`` where that is set (``ray job submit`` sets it), else starts
    a local instance that listens on loopback only and is shut down at the end.

    Args:
        dashboard: start Ray's dashboard, and tell where it is.
        head_server: start its server only: Tune with early stopping needs it (without, stopped
            trials leak resources).

    Raises:
        InputError: the address of ``RAY_ADDRESS`` does not answer, or this machine has not the
            memory that a local Ray needs.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    environment = _QUIET_ENVIRONMENT | ({} if address else _LOCAL_ENVIRONMENT)
    for key, value in (environment | (_SHOWING_ENVIRONMENT if dashboard else {})).items():
        os.environ.setdefault(key, value)
    with phase("starting Ray"):
        import ray

        if not (shared := ray.is_initialized()):
            url = _start(address, dashboard or head_server)
    if dashboard and not shared:
        print(_about_dashboard(url, address))
    try:
        yield
    finally:
        if not shared:
            with phase("stopping Ray"):
                ray.shutdown()


def _start(address: str, dashboard: bool) -> str:
    on_term = signal.getsignal(signal.SIGTERM)
    if address:
        url = _join(address)
    else:
        refuse_too_little_memory(psutil.virtual_memory().available)
        url = start_local_ray(num_cpus=logical_cpus(), include_dashboard=dashboard)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # Ray's own would abort with a stack dump
    _quiet_ray_data()
    return url


def _about_dashboard(url: str, address: str) -> str:
    """Where the dashboard is, and what it asks for."""
    if not url:
        return "Ray has no dashboard here: its package ray[default] brings it."
    if address:
        return f"Ray's dashboard: http://{url} as the cluster sees it; ray dashboard cluster.yaml."
    return (
        f"Ray's dashboard: http://{url} on this machine; it asks once for the token in "
        f"{_token_file()}."
    )


def _join(address: str) -> str:
    """Join a cluster; where its dashboard is."""
    import ray

    try:
        with _stderr_to(Path(os.devnull)):
            return ray.init(address=address, **_SILENT).dashboard_url or ""
    except ConnectionError as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start one with "
            "'ray up cluster.yaml', or unset RAY_ADDRESS to run on this machine."
        ) from error


def start_local_ray(**options: Any) -> str:
    """Start a Ray of this process's own: on 127.0.0.1, behind a random token.

    Returns:
        where its dashboard is, ``HOST:PORT``; ``""`` without one.

    Raises:
        InputError: it does not start, also when given more time.
    """
    close_to_others()
    import ray
    from ray._private import services

    get_node, this = services.get_node, psutil.Process()
    for limit in _START_LIMITS_S:
        before = set(this.children(recursive=True))
        services.get_node = partial(_get_node, get_node, time.monotonic() + limit)
        try:
            with _stderr_to(Path(os.devnull)):
                # "local": never a stale address file's dead cluster.
                started = ray.init(
                    address="local", dashboard_host="127.0.0.1", **_SILENT, **options
                )
            return started.dashboard_url or ""
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            left = set(this.children(recursive=True)) - before  # by Ray
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=10)
            reason = first_line(error)
        finally:
            services.get_node = get_node
    raise InputError(
        f"Ray does not start on this machine ({reason.rstrip('.')}); end other programs, or run "
        "without Ray: --engine local."
    )


def _get_node(get_node: Callable[..., Any], deadline: float, *where: str) -> Any:
    """Ray's own look for the node that starts, until a deadline instead of for 30 seconds."""
    while time.monotonic() < deadline:
        try:
            return get_node(*where)
        except RuntimeError:  # it is not there yet
            time.sleep(0.1)
    raise TimeoutError("its node was not there in time")


def close_to_others() -> None:
    """Set up this process and its children so that a Ray they start is open to them alone."""
    os.environ.update(_CLOSED_ENVIRONMENT)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would come before the file
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token_file())
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]

    # Ray reads both when it is imported, which may have been earlier.
    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")


@cache
def _token_file() -> Path:
    """A file with a random token that only this user can read; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cpcdr-ray-"))  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """What C++ code writes to standard error goes to a file: Ray announces its log level there."""
    sys.stderr.flush()
    kept, other = os.dup(2), os.open(path, os.O_WRONLY)
    os.dup2(other, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(other)


def _quiet_ray_data() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # cpcdr draws one bar of its own, in frames
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def refuse_too_little_memory(free: int) -> None:
    """Refuse to start a local Ray with so many free bytes that its object store is too small.

    Raises:
        InputError: Ray would raise a `ValueError` of its own.
    """
    taken = free * _OBJECT_STORE_FRACTION
    if taken < _OBJECT_STORE:
        raise InputError(
            f"{free / 2**20:.0f} MiB of memory are free, of which Ray's object store takes 30 %: "
            f"{taken / 2**20:.0f} MiB, and it needs 75; end other programs, or run without Ray: "
            "--engine local."
        )


def refuse_what_never_fits(what: str, count: int, needs: Mapping[str, float], remedy: str) -> None:
    """Refuse a start that could only wait for machines that will never come.

    Args:
        what: a plural, such as ``workers``.
        count: how many there shall be at the same time.
        needs: resources of each one, such as ``{"CPU": 2, "GPU": 1}``; all from one machine.
        remedy: what the user can do, the end of the sentence.

    Raises:
        InputError: they do not fit; the sentence has the arithmetic.
    """
    available, certain = machines()
    room = how_many_fit(available, needs)
    if room >= count:
        return
    each = " + ".join(f"{amount:g} {name}s" for name, amount in needs.items())
    there = " and ".join(
        f"{number} x (" + ", ".join(f"{have.get(name, 0):g} {name}s" for name in needs) + ")"
        for have, number in available
    )
    sentence = (
        f"{count} {what} x {each} do not fit the machines, {there or 'none'}: room for {room}"
    )
    if certain:
        raise InputError(f"{sentence}; {remedy}.")
    print(f"{sentence}; waiting for the cluster to grow (else stop, and {remedy}).")


def how_many_fit(machines: Machines, needs: Mapping[str, float]) -> int:
    """How many bundles of ``needs`` the machines hold, none of them across two machines.

    >>> how_many_fit([({"CPU": 4, "GPU": 1}, 2), ({"CPU": 8}, 1)], {"CPU": 2, "GPU": 1})
    2
    """
    room = 0
    for have, number in machines:
        ratios = [have.get(name, 0.0) / amount for name, amount in needs.items() if amount > 0]
        room += number * int(min(ratios) + 1e-9) if ratios else number
    return room


def machines() -> tuple[Machines, bool]:
    """The machines that exist or can be started, and whether that is certain.

    A cluster of ``ray up`` has its file on the head, which lists what can be started. Whether any
    other cluster grows is unknown here.
    """
    import ray

    alive: Machines = [(node["Resources"], 1) for node in ray.nodes() if node["Alive"]]
    if not on_cluster():
        return alive, True
    path = Path("~/ray_bootstrap_config.yaml").expanduser()
    if not path.exists():
        return alive, False
    allowed = machines_of_file(read_yaml(path))
    described = all(have for have, number in allowed if number)  # not so one's own machines
    return (allowed, True) if described else (alive, False)


def machines_of_file(cluster: Mapping[str, Any]) -> Machines:
    """The machines that a cluster file allows."""
    most = cluster.get("max_workers", 0)
    result: Machines = []
    for name, kind in (cluster.get("available_node_types") or {}).items():
        head = name == cluster.get("head_node_type")
        number = 1 if head else min(most, kind.get("max_workers", most))
        result.append((kind.get("resources") or {}, number))
    return result
