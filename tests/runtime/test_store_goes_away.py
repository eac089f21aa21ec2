"""A tracking store that is deleted, locked or never was one: history and MLflow still agree."""

from __future__ import annotations

import contextlib
import doctest
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking import store
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.outbox import Outbox
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.train.history import append_history, read_history

CONFIG = TrackingConfig()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables: making them takes seconds, copying them none."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    store.connect(f"sqlite:///{path}", "other", "key", "name", {})
    return path


@pytest.fixture
def database(tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(tables, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path / "mlflow.db"


def train_steps(run: Run, history: Path, steps: range) -> None:
    for step in steps:
        append_history(history, {"step": step, "loss": 1 / (step + 1)})
        run.metrics({"loss": 1 / (step + 1)}, step)
        run.flush()


def assert_agree(run: Run, history: Path) -> None:
    from mlflow import MlflowClient

    store.forget(run.uri)  # what the file holds, not what an open connection sees
    client = MlflowClient(run.uri)
    points = [(p.step, p.value) for p in client.get_metric_history(run.run_id, "loss")]
    assert sorted(points) == [(row["step"], row["loss"]) for row in read_history(history)]
    assert client.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_deleted_during_a_run(
    database: Path, tables: Path, tmp_path: Path, replaced: bool
) -> None:
    history = tmp_path / "history.jsonl"
    with open_run(CONFIG, "depth", "k", {"lr": 1}, fallback=tmp_path / "out") as run:
        run.tags({"a": "b"})
        train_steps(run, history, range(6))
        database.unlink()
        if replaced:
            shutil.copy(tables, database)
        train_steps(run, history, range(6, 9))
    assert_agree(run, history)
    with open_run(CONFIG, "depth", "k", {"lr": 1}, fallback=tmp_path / "out") as again:
        assert again.run_id == run.run_id
    assert_agree(again, history)


@pytest.mark.slow
def test_a_store_locked_during_a_run(database: Path, tmp_path: Path) -> None:
    history, out = tmp_path / "history.jsonl", tmp_path / "out"
    lock = sqlite3.connect(database, isolation_level=None)
    with open_run(CONFIG, "depth", "k", {}, fallback=out) as run:
        train_steps(run, history, range(3))
        lock.execute("BEGIN EXCLUSIVE")
        train_steps(run, history, range(3, 6))
        assert not run.flush()
    assert list(out.glob("unsent-*.jsonl")), "what the locked store did not take is kept"
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"cannot be written .database is locked"):
        open_run(CONFIG, "depth", "k", {}, fallback=out)
    assert time.perf_counter() - start < 30
    lock.execute("ROLLBACK")
    with open_run(CONFIG, "depth", "k", {}, fallback=out) as again:
        pass
    assert_agree(again, history)
    assert again.run_id == run.run_id and not list(out.glob("unsent-*.jsonl"))


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_something_else_in_the_stores_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "mlflow.db"
    path.mkdir() if kind == "folder" else path.write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"mlflow\.db (is a folder|cannot be written)"):
        open_run(CONFIG, "depth", "k", {})
    assert time.perf_counter() - start < 60  # most of it imports MLflow


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("sqlite:////data/a@b:c@d/runs.db", "sqlite:////data/a@b:c@d/runs.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("https://me:secret@host:5000", "https://host:5000"),
        ("postgresql+psycopg2://me:se/cret@host/db", "postgresql+psycopg2://host/db"),
        ("mysql://me:secret@host/db", "mysql://host/db"),
        ("postgresql://host/db?password=secret&x=1", "postgresql://host/db?password=...&x=1"),
    ],
)
def test_addresses_are_shown_without_their_password_and_otherwise_whole(
    address: str, shown: str
) -> None:
    assert store.without_password(address) == shown
    assert doctest.testmod(store).failed == 0
    if "secret" in address and "?" not in address:
        assert "secret" not in store.without_secrets("login as me with 'secret' failed", address)


@pytest.mark.slow
def test_a_password_is_nowhere_in_what_a_dead_server_makes_us_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: object
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:9/x")
    with caplog.at_level(logging.DEBUG), open_run(CONFIG, "depth", "k", {}, tmp_path) as run:
        run.metrics({"loss": 1.0}, 0)
    assert "127.0.0.1:9" in caplog.text
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("cpcdr", "mlflow"))]
    assert "s3cret" not in "".join(ours)
    assert isinstance(capfd, pytest.CaptureFixture) and "s3cret" not in "".join(capfd.readouterr())
    assert "s3cret" not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_a_journal_from_elsewhere_deletes_no_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("x")
    outbox = Outbox(tmp_path / "out", "k")
    outbox.entries.append({"op": "file", "path": str(precious), "folder": "", "stored": True})
    outbox.remove(outbox.head())
    assert precious.exists() and not outbox.entries


_CONNECT = "from cpcdr.runtime.tracking import store\nstore.connect({uri!r}, 'e', 'k', 'n', {{}})"


@pytest.mark.slow
def test_a_kill_while_the_tables_are_made_leaves_nothing_half_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    process = subprocess.Popen(
        [sys.executable, "-c", _CONNECT.format(uri=uri)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    databases = [tmp_path / name for name in ("mlflow.db", ".mlflow.db.partial")]
    size = 0
    while process.poll() is None and size < 300_000:
        for path in databases:
            with contextlib.suppress(FileNotFoundError):
                size = max(size, path.stat().st_size)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "killed in the middle"
    _, run, status = store.connect(uri, "e", "k", "n", {})
    assert status == ""
    assert run.data.tags["cpcdr.run_key"] == "k"
    assert [path.name for path in tmp_path.glob("*partial*")] == []
