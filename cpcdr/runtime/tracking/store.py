"""The MLflow side of a run: opening a store once, finding or creating a run in it."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cpcdr.runtime.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

_REMOTE = ("http", "https", "postgresql", "mysql", "mssql", "databricks")
_PARAMS = 100  # in one request, MLflow's limit
_PARAM_LENGTH = 6000  # MLflow's limit


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working folder.

    SQLite paths are made absolute, because Ray's workers have other working folders.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = _sqlite_path(uri)
    return f"sqlite:///{path}" if path else uri


def is_remote(uri: str) -> bool:
    """Whether the store is a server, which may be away for a while without being wrong."""
    return urlsplit(uri).scheme.partition("+")[0] in _REMOTE


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def connect(
    uri: str, experiment: str, key: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, MlflowRun]:
    """Open the store, and in it the run whose tag ``cpcdr.run_key`` is ``key``.

    On SQLite a file lock makes this one process at a time: two that migrate a new database at once
    break it (``duplicate column name``), two that look for a run at once create it twice.

    Raises:
        InputError: the experiment was deleted. Everything else comes as MLflow raises it.
    """
    quieten()
    import mlflow

    with _lock(uri):
        client = mlflow.MlflowClient(uri)
        experiment_id = _experiment_id(client, experiment, uri)
        run = _find_or_create(client, experiment_id, key, name, _environment() | tags)
    return client, run


def log_params(client: MlflowClient, run: MlflowRun, params: dict[str, str]) -> None:
    """Log the parameters that the run does not have yet: MLflow refuses to change one."""
    from mlflow.entities import Param

    new = [Param(k, v[:_PARAM_LENGTH]) for k, v in params.items() if k not in run.data.params]
    for start in range(0, len(new), _PARAMS):
        client.log_batch(run.info.run_id, params=new[start : start + _PARAMS])


def dataset_input(name: str, path: str, digest: str, context: str) -> DatasetInput:
    """A dataset as MLflow shows it among the inputs of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": path})
    dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def quieten() -> None:
    """Before MLflow is imported: nothing phones home, dead servers are noticed within seconds,
    and standard output is left to the command."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for name in ("alembic", "mlflow.store.db.utils"):  # a page about tables on the first start
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # we warn ourselves, once


def _sqlite_path(uri: str) -> Path | None:
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


@contextlib.contextmanager
def _lock(uri: str) -> Iterator[None]:
    path = _sqlite_path(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
        yield


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        path = _sqlite_path(uri)
        artifacts = (path.parent / "mlartifacts").as_uri() if path else None
        return client.create_experiment(name, artifact_location=artifacts)
    if found.lifecycle_stage != "active":
        raise InputError(
            f"The MLflow experiment {name!r} was deleted: restore it with `mlflow experiments "
            f"restore -x {found.experiment_id}`, or choose another with --experiment."
        )
    return found.experiment_id


def _find_or_create(
    client: MlflowClient, experiment_id: str, key: str, name: str, tags: dict[str, str]
) -> MlflowRun:
    from mlflow.entities import RunTag

    found = client.search_runs([experiment_id], f"tags.`cpcdr.run_key` = '{key}'", max_results=1)
    if not found:
        tags["cpcdr.run_key"] = key
        return client.create_run(experiment_id, run_name=name, tags=tags)
    run_id = found[0].info.run_id
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
    return client.get_run(run_id)


def _environment() -> dict[str, str]:
    """Who ran what where, as tags; the names that MLflow's pages know where it has one."""
    tags = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "cpcdr.machine": f"{platform.node()} ({platform.system()} {platform.machine()})",
        "cpcdr.python": platform.python_version(),
    }
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    for package in ("torch", "ray"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            tags[f"cpcdr.{package}"] = importlib.metadata.version(package)
    if commit := _commit():
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        tags["cpcdr.uncommitted_changes"] = str(commit.endswith("-dirty")).lower()
    return tags


def _commit() -> str:
    """The commit of this package's repository, with ``-dirty``; empty if it is in none."""

    def git(*arguments: str) -> Any:
        command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10)

    try:
        # Tracked at all? An installed package may lie in somebody else's repository.
        if git("ls-files", "--error-unmatch", Path(__file__).name).returncode:
            return ""
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
