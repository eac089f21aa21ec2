"""One MLflow run for each command, the same one when the command is run again.

A `Run` buffers what it is given and sends it in batches, because every commit to SQLite costs
about 10 ms. Whatever cannot be sent waits, on disk where a fallback folder is given, so that an
unreachable server costs a warning and never a training. MLflow is imported only once a run opens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.runtime.config import flatten, write_atomic
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tracking import entities, store
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.machine import A_MEASURE, Machine
from cpcdr.runtime.tracking.outbox import Entry, Outbox

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

_FLUSH_ENTRIES, _FLUSH_SECONDS = 500, 5.0
_FIRST_RETRY_SECONDS = 60.0  # doubles with each failure: a dead server must not slow a training


@phase("opening the tracking store")
def open_run(
    config: TrackingConfig,
    kind: str,
    key: str,
    params: dict[str, Any],
    fallback: Path | None = None,
    about: Sequence[str] = (),
) -> Run:
    """Create the run of ``key``, or re-open it if it exists, however it ended before.

    Args:
        kind: ``prepare``, ``depth``, ``pretrain``, ``evaluate`` ...; a tag and the default name.
        key: identifies the run among all of the experiment: equal work has an equal key.
        params: configuration, nested dicts; flattened with dots.
        fallback: folder that keeps what an unreachable server did not take, until the next try.
        about: what tells it from other runs, such as ``resnet18``, ``drive``, ``5000 steps``; with
            ``kind`` it makes the run's name.

    Raises:
        InputError: the local store cannot be opened, or the experiment was deleted.
    """
    if config.tracking == "none":
        return Run("", config, kind, key, {})
    run = Run(store.tracking_uri(), config, kind, key, params, fallback, about)
    run._outbox.load()
    try:
        run._connect()
    except InputError:
        raise
    except Exception as error:  # MLflow, SQLAlchemy, requests: every store has its own
        if store.is_remote(run.uri):
            run._postpone(error)
        else:
            where = store.without_password(run.uri)
            raise InputError(
                f"The tracking store {where} cannot be opened ({_first_line(error, run.uri)}): set "
                "MLFLOW_TRACKING_URI to sqlite:///FILE or to a server, or use --tracking none."
            ) from error
    run.flush()
    return run


@contextmanager
def run_in_folder(
    config: TrackingConfig,
    kind: str,
    key: str,
    params: dict[str, Any],
    folder: Path,
    about: Sequence[str] = (),
) -> Iterator[Run]:
    """The run of a command that writes ``folder``, which no other process writes meanwhile."""
    with hold(folder), open_run(config, kind, key, params, folder, about) as run:
        yield run


class Run:
    """One MLflow run; made by `open_run`. Without a ``uri`` every method does nothing.

    Not for several threads. It can be pickled: the copy re-opens the same run when it first logs,
    takes along nothing that is buffered, and must be flushed by whoever holds it.

    Attributes:
        uri: the tracking store, ``""`` without tracking.
        run_id: MLflow's id, ``""`` without tracking or while the server has not been reached.
    """

    def __init__(
        self,
        uri: str,
        config: TrackingConfig,
        kind: str,
        key: str,
        params: dict[str, Any],
        fallback: Path | None = None,
        about: Sequence[str] = (),
    ) -> None:
        self.uri = uri
        self.run_id = ""
        self._arguments = (uri, config, kind, key, params, fallback, about)
        self._config, self._kind = config, kind
        self._name = config.run_name or f"{kind} {' · '.join(about)}".strip()
        self._params = {entities.name_of(k): str(v) for k, v in flatten(params, ".")}
        self._key = key.replace("'", "’")  # MLflow's filters cannot escape a quote
        self._outbox = Outbox(fallback, key)
        self._client: MlflowClient | None = None
        self._status: str | None = None  # that the run had when this session first opened it
        self._metrics: dict[str, float] = {}  # and its last metrics then
        self._known: set[str] = set()  # metrics that a re-opened run has already
        self._logged: dict[str, int] = {}  # last step of each metric
        self._sent: list[Entry] = []  # for a new store, should this one be deleted
        self._file: tuple[int, int] | None = None  # which file a store of SQLite was
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        self._next_try, self._retry_seconds = 0.0, _FIRST_RETRY_SECONDS
        self._figures: list[str] = []
        self._experiment = ""
        self._machine, self._measured = Machine(), -1  # and the last step of what it measures

    def __reduce__(self) -> tuple[type[Run], tuple[Any, ...]]:
        return (Run, self._arguments)

    @property
    def place(self) -> str:
        """How to look at it; ``""`` without tracking."""
        if not self.run_id:
            return ""
        uri = store.without_password(self.uri)
        look = uri if store.is_remote(uri) else f"mlflow ui --backend-store-uri {uri}"
        return f"{self.run_id} ({look})"

    @property
    def trials(self) -> str:
        """The page of MLflow that shows this run's child runs side by side; ``""`` without one."""
        if not self.run_id:
            return ""
        wanted = f"tags.`mlflow.parentRunId` = '{self.run_id}'"
        return entities.runs_page(store.without_password(self.uri), self._experiment, wanted)

    def metrics(self, values: dict[str, Any], step: int) -> None:
        """Log numbers at a step. They are sent within seconds; `flush` before a checkpoint counts.

        Nested dicts are flattened with ``/``; what is not a finite number is left out. A step that
        the run has already for a metric is skipped: a resumed training repeats the steps after its
        last checkpoint with equal values.
        """
        now = int(time.time() * 1000)
        for key, value in flatten(values, "/"):
            number = entities.finite(value)
            if number is not None:
                self._add(
                    op="metric", key=entities.name_of(key), value=number, step=int(step), time=now
                )
        if len(self._outbox.entries) >= _FLUSH_ENTRIES or time.monotonic() >= self._next_flush:
            self.flush()

    def tags(self, values: dict[str, Any]) -> None:
        """Set tags; nested dicts are flattened with dots, long values cut."""
        self._add(
            op="tags", tags={entities.name_of(k): str(v)[:8000] for k, v in flatten(values, ".")}
        )

    @phase("recording the run")
    def figure(self, name: str, image: NDArray[np.uint8], folder: Path | None = None) -> None:
        """Store uint8 [H, W, 3] RGB as ``figures/{name}.png``, and in a folder of the command's."""
        encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        self._figures.append(name)
        self._stored(f"figures/{name}.png", encoded)
        if folder is not None:
            write_atomic(folder / f"{name}.png", encoded)

    def text(self, name: str, text: str) -> None:
        """Store a text as the artifact ``{name}``, such as ``config.yaml``."""
        self._stored(name, text.encode())

    @phase("recording the run")
    def artifact(self, path: Path, folder: str = "") -> None:
        """Store a file or a folder under the artifact folder ``folder``.

        Raises:
            InputError: there is no such file.
        """
        if not path.exists():
            raise InputError(f"{path} cannot be recorded, it does not exist: check the path.")
        self._add(op="file", path=str(path.resolve()), folder=folder, stored=False)
        self.flush()

    def dataset(
        self,
        name: str,
        place: Path | str,
        digest: str,
        columns: Mapping[str, str],
        rows: int,
        context: str = "training",
    ) -> None:
        """Record data that the run uses, as an input of MLflow's with its schema.

        The arguments are those of `cpcdr.runtime.tracking.entities.dataset_input`.
        """
        about = {"name": name, "place": str(place), "digest": digest, "columns": dict(columns)}
        self._add(op="dataset", context=context, rows=rows, **about)

    @phase("recording the network")
    def model(self, folder: Path, loader: str, digest: str, example: NDArray[np.uint8]) -> None:
        """Log a checkpoint as the run's model, ``runs:/RUN_ID/network`` to MLflow.

        Args:
            loader: the module that loads it.
            digest: of the weights.
            example: an image uint8 [H, W, 3] RGB, stored as text: a small one.
        """
        where = {"path": str(folder.resolve()), "loader": loader, "digest": digest}
        self._add(op="model", example=example[None].tolist(), **where)
        self.flush()

    def describe(self, result: Mapping[str, Any]) -> None:
        """Put the numbers of a result, and the figures, into the run's description."""
        self._add(op="note", text=entities.description(result, self._figures))

    def flush(self) -> bool:
        """Send what is buffered. Returns whether nothing is left to send.

        What could not be sent is then on disk, where the run has a fallback folder.
        """
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        self._add_measures_of_the_machine()
        while self._outbox.entries and time.monotonic() >= self._next_try:
            batch: list[Entry] = []
            try:
                client = self._connect()
                batch = self._outbox.head()
                self._send(client, batch)
            except Exception as error:  # whatever is wrong with the server must not end a training
                if getattr(error, "error_code", "") != "INVALID_PARAMETER_VALUE":
                    self._postpone(error)
                    break
                op = batch[0]["op"] if batch else "the run"
                _log.warning("MLflow refused %s: %s", op, _first_line(error, self.uri))
            self._outbox.remove(batch)
            self._sent += [e for e in batch if e["op"] != "status" and not e.get("stored")]
        try:
            self._outbox.keep()
        except OSError as error:  # a full disk: it waits in memory
            _log.warning("%s cannot be written (%s).", self._outbox.journal, error.strerror)
        return not self._outbox.entries

    @phase("recording the run")
    def close(self, status: str = "FINISHED") -> None:
        """Send the rest and end the run as FINISHED, FAILED or KILLED. It may be called twice."""
        self._add(op="status", status=status)
        self._next_try = 0.0  # one last try, however recent the last failure
        if not self.flush():
            where = f"kept in {self._outbox.journal}" if self._outbox.journal else "lost"
            count, server = len(self._outbox.entries), store.without_password(self.uri)
            _log.warning("%s was not reached: %d entries are %s.", server, count, where)
        self._outbox.discard()

    def __enter__(self) -> Run:
        if self._client is not None:
            self._machine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._machine.stop()
        if error is None:
            self.close("FINISHED")
        elif isinstance(error, KeyboardInterrupt):
            self.close("KILLED")
        elif not (isinstance(error, InputError) and self._taken_back()):
            self.tags({"cpcdr.last_error": f"{type(error).__name__}: {error}"[:1000]})
            self.close("FAILED")

    def _taken_back(self) -> bool:
        """Leave no trace of a command that was refused before it measured anything, if it was."""
        if self._client is None or self._status is None or not self.flush():
            return False
        try:
            return store.take_back(self._client, self.run_id, self._status, self._metrics)
        except Exception as failure:  # whatever the server has against it, the run stays as FAILED
            _log.warning("The run of a refused command stays (%s).", _first_line(failure, self.uri))
            return False

    def _add(self, **entry: Any) -> None:
        if self.uri:
            self._outbox.entries.append(entry)

    def _add_measures_of_the_machine(self) -> None:
        while self._machine.samples:
            moment, values = self._machine.samples.popleft()
            self._measured += 1
            for key, value in values.items():
                entry = {"key": key, "value": float(value), "step": self._measured, "time": moment}
                self._add(op="metric", **entry)

    def _stored(self, name: str, data: bytes) -> None:
        """Log bytes as an artifact, by way of a file that is deleted once it is sent."""
        if self.uri:
            path = str(self._outbox.store(name, data))
            self._add(op="file", path=path, folder=name.rpartition("/")[0], stored=True)
            self.flush()

    def _connect(self) -> MlflowClient:
        """The client, once the run exists. Raises what MLflow raises.

        Where the database was deleted since the last time, a new one gets all that it had.
        """
        if self._client is not None and store.file_of(self.uri) != self._file:
            store.forget(self.uri)
            self._client = None
        if self._client is None:
            tags = {"cpcdr.kind": self._kind}
            if self._config.parent:
                tags["mlflow.parentRunId"] = self._config.parent
            client, run, status = store.connect(
                self.uri, self._config.experiment, self._key, self._name, tags
            )
            if self.run_id and self.run_id != run.info.run_id:
                _log.warning(
                    "%s was deleted: all but figures and texts is sent to a new one.",
                    store.without_password(self.uri),
                )
                self._outbox.put_back(self._sent)
                self._sent = []
            if self._status is None:
                self._status, self._metrics = status, dict(run.data.metrics)
            self.run_id, self._file = run.info.run_id, store.file_of(self.uri)
            self._experiment = run.info.experiment_id
            self._known, self._logged = set(run.data.metrics), {}
            self._measured = max(self._measured, self._last_step(client, A_MEASURE))
            store.log_params(client, run, self._params)
            self._client = client
        return self._client

    def _send(self, client: MlflowClient, batch: list[Entry]) -> None:
        from mlflow.entities import Metric, RunTag

        first = batch[0]
        match first["op"]:
            case "metric":
                steps = {e["key"]: self._last_step(client, e["key"]) for e in batch}
                fresh = []
                for e in batch:
                    if e["step"] > steps[e["key"]]:
                        steps[e["key"]] = e["step"]
                        fresh.append(Metric(e["key"], e["value"], e["time"], e["step"]))
                if fresh:
                    client.log_batch(self.run_id, metrics=fresh)
                self._logged |= steps
            case "tags":
                client.log_batch(self.run_id, tags=[RunTag(*i) for i in first["tags"].items()])
            case "status":
                client.set_terminated(self.run_id, first["status"])
            case _:
                entities.send(client, self.uri, self.run_id, first)

    def _last_step(self, client: MlflowClient, key: str) -> int:
        if key not in self._logged:
            history = client.get_metric_history(self.run_id, key) if key in self._known else []
            self._logged[key] = max((point.step for point in history), default=-1)
        return self._logged[key]

    def _postpone(self, error: Exception) -> None:
        if self._retry_seconds == _FIRST_RETRY_SECONDS:
            _log.warning(
                "%s cannot be reached (%s): work continues; logging is queued.",
                *(store.without_password(self.uri), _first_line(error, self.uri)),
            )
        self._next_try = time.monotonic() + self._retry_seconds
        self._retry_seconds *= 2


def _first_line(error: Exception, uri: str) -> str:
    text = store.without_secrets(str(error).strip(), uri)
    return (text.splitlines() or [type(error).__name__])[0][:200]
