"""The MLflow side of a run: opening a store once, finding or creating a run in it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.environment import environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_REMOTE = ("http", "https", "postgresql", "mysql", "mssql", "databricks")
_LOCKED_SECONDS = 10.0
"""How long to wait for a database that another program has locked."""
_SECRET = r"(?i)([?&;][^=&\s]*(?:password|passwd|token|secret)[^=&\s]*=)[^&;\s]+"
_PARAMS = 100  # in one request, MLflow's limit
_PARAM_LENGTH = 6000  # MLflow's limit


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working folder.

    SQLite paths are made absolute, because Ray's workers have other working folders.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path, (_, mark, query) = _sqlite_path(uri), uri.partition("?")
    return f"sqlite:///{path}{mark}{query}" if path else uri


def is_remote(uri: str) -> bool:
    """Whether the store is a server, which may be away for a while without being wrong."""
    return urlsplit(uri).scheme.partition("+")[0] in _REMOTE


def without_password(uri: str) -> str:
    """The address as it may be shown, or a text with addresses in it.

    >>> without_password("postgresql://me:a/b@host/runs?sslpassword=x&sslmode=on")
    'postgresql://host/runs?sslpassword=...&sslmode=on'
    >>> without_password("sqlite:////data/a@b/mlflow.db")
    'sqlite:////data/a@b/mlflow.db'
    """
    # A database's password may contain a slash. After http:, a slash ends the server's name.
    bare = re.sub(r"(?i)(?<!http)(?<!https)://[^:/@\s]*:[^@\s]*@", "://", uri)
    return re.sub(_SECRET, r"\1...", re.sub(r"://[^/@\s]*@", "://", bare))


def without_secrets(text: str, uri: str) -> str:
    """A text about a store without the password of its address, in whatever form it is there."""
    with contextlib.suppress(ValueError):
        password = urlsplit(uri).password or ""
        for secret in {password, unquote(password)} - {""}:
            text = text.replace(secret, "...")
    return without_password(text)


def connect(
    uri: str, experiment: str, key: str, name: str, tags: dict[str, str]
) -> tuple[MlflowClient, MlflowRun, str]:
    """Open the store, and in it the run whose tag ``cpcdr.run_key`` is ``key``.

    Returns:
        the client, the run, and the status that the run had; "" of a new run.

    On SQLite a file lock makes this one process at a time: two that migrate a new database at once
    break it (``duplicate column name``), two that look for a run at once create it twice.

    Raises:
        InputError: the experiment was deleted, or a file that is no usable SQLite database is in
            its place. Everything else comes as MLflow raises it.
    """
    quieten()
    import mlflow
    import mlflow.store.db.utils

    mlflow.store.db.utils.MAX_RETRY_COUNT = 3  # ten, each after twice the time, are 102 s
    with _lock(uri):
        _check_sqlite(uri)
        _make_database(uri)
        client = mlflow.MlflowClient(uri)
        experiment_id = _experiment_id(client, experiment, uri)
        run, status = _find_or_create(client, experiment_id, key, name, environment() | tags)
    return client, run, status


def take_back(client: MlflowClient, run_id: str, status: str, metrics: Mapping[str, float]) -> bool:
    """Leave a run as it was before a command that has been refused: a new one is deleted.

    Args:
        status: as `connect` returned it.
        metrics: the run's last metrics then.

    Returns:
        False, and nothing is changed, if the command has measured something or has child runs.
    """
    run = client.get_run(run_id)
    parent = f"tags.`mlflow.parentRunId` = '{run_id}'"
    if _measured(run.data.metrics) != _measured(metrics) or (
        not status and client.search_runs([run.info.experiment_id], parent, max_results=1)
    ):
        return False
    if status:
        client.update_run(run_id, status=status)
    else:
        client.delete_run(run_id)
    return True


def _measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without those of the machine."""
    return {name: value for name, value in metrics.items() if not name.startswith("system/")}


def log_params(client: MlflowClient, run: MlflowRun, params: dict[str, str]) -> None:
    """Log the parameters that the run does not have yet: MLflow refuses to change one."""
    from mlflow.entities import Param

    new = [Param(k, v[:_PARAM_LENGTH]) for k, v in params.items() if k not in run.data.params]
    for start in range(0, len(new), _PARAMS):
        client.log_batch(run.info.run_id, params=new[start : start + _PARAMS])


def quieten() -> None:
    """Before MLflow is imported: nothing phones home, dead servers are noticed within seconds,
    and standard output is left to the command."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for name in ("alembic", "mlflow.pyfunc"):  # a page about tables; a line for every model
        logging.getLogger(name).setLevel(logging.WARNING)
    # We warn ourselves, once, and without the address's password.
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def file_of(uri: str) -> tuple[int, int] | None:
    """Which file an SQLite store is, by device and inode; None for others and where it is gone."""
    path = _sqlite_path(uri)
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def forget(uri: str) -> None:
    """Close MLflow's connections to a database, which write into its file when it is deleted."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    engine = SqlAlchemyStore._engine_map.pop(uri, None)
    if engine is not None:
        engine.dispose()
    type(_tracking_store_registry)._get_store_with_resolved_uri.cache_clear()


def _sqlite_path(uri: str) -> Path | None:
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    return Path(uri.removeprefix(prefix).partition("?")[0]).absolute()


def _check_sqlite(uri: str) -> None:
    path = _sqlite_path(uri)
    if path is None or not path.exists():
        return
    problem = "is a folder" if path.is_dir() else ""
    try:
        if not problem:
            with contextlib.closing(sqlite3.connect(path, _LOCKED_SECONDS)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.rollback()
    except sqlite3.Error as error:
        problem = f"cannot be written ({error})"
    if problem:
        raise InputError(
            f"The tracking store {path} {problem}: set MLFLOW_TRACKING_URI to sqlite:///FILE or to "
            "a server, or use --tracking none."
        )


def _make_database(uri: str) -> None:
    """Make a missing database beside its place, then rename it.

    MLflow makes its tables one by one and cannot open a database that was left in between.
    """
    path = _sqlite_path(uri)
    if path is None or (path.exists() and path.stat().st_size):
        return
    import mlflow

    partial = path.with_name(f".{path.name}.partial")
    for file in (partial, partial.with_name(f"{partial.name}-journal")):
        file.unlink(missing_ok=True)
    made = f"sqlite:///{partial}"
    mlflow.MlflowClient(made).search_experiments(max_results=1)
    forget(made)
    partial.replace(path)


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
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = _sqlite_path(uri)
        artifacts = (path.parent / "mlartifacts").as_uri() if path else None
        return client.create_experiment(name, artifact_location=artifacts)
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"The MLflow experiment {name!r} was deleted: restore it with `mlflow experiments "
            f"restore -x {experiment.experiment_id}`, or choose another with --experiment."
        )
    return experiment.experiment_id


def _find_or_create(
    client: MlflowClient, experiment_id: str, key: str, name: str, tags: dict[str, str]
) -> tuple[MlflowRun, str]:
    from mlflow.entities import RunTag

    runs = client.search_runs([experiment_id], f"tags.`cpcdr.run_key` = '{key}'", max_results=1)
    if not runs:
        tags["cpcdr.run_key"] = key
        return client.create_run(experiment_id, run_name=name, tags=tags), ""
    run_id, status = runs[0].info.run_id, runs[0].info.status
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
    return client.get_run(run_id), status
