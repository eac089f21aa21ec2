"""What a run has yet to send: in memory, and on disk while the server is away."""

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cpcdr.runtime.strict_json import parse_object

_log = logging.getLogger(__name__)

Entry = dict[str, Any]
"""Something to log, as plain JSON: ``op`` is metric, tags, file, dataset, model, note or status."""

_BATCH = 1000  # metrics in one request, MLflow's limit


class Outbox:
    """Entries in the order they came.

    Attributes:
        journal: JSON lines of what a server did not take, None where no folder was given. It is
            appended to, so that a kill loses nothing that was journaled.
        spool: folder of artifacts that are waiting, None before the first.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        self.entries: list[Entry] = []
        self.journal = folder / f"unsent-{digest}.jsonl" if folder else None
        self.spool: Path | None = None
        self._folder = folder
        self._journaled = 0  # how many of the entries are in the journal

    def load(self) -> None:
        """Take over what an earlier session could not send, but for how it ended."""
        if self.journal is None or not self.journal.exists():
            return
        lines = [line for line in self.journal.read_bytes().split(b"\n") if line.strip()]
        for line in lines:
            with contextlib.suppress(ValueError):  # torn by a kill
                entry = parse_object(line)
                if _whole(entry):
                    self.entries.append(entry)
        if len(self.entries) < len(lines):
            count = len(lines) - len(self.entries)
            _log.warning("%s: %d of %d lines are damaged.", self.journal, count, len(lines))
        self.entries = [entry for entry in self.entries if entry["op"] != "status"]
        self._journaled = len(self.entries)

    def store(self, name: str, data: bytes) -> Path:
        """Put an artifact's bytes into a file of their own, named as the last part of ``name``."""
        if self.spool is None:
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            self.spool = Path(tempfile.mkdtemp(prefix="unsent-", dir=self._folder)).resolve()
        path = Path(tempfile.mkdtemp(dir=self.spool)) / Path(name).name
        path.write_bytes(data)
        return path

    def head(self) -> list[Entry]:
        """The entries that the next request can carry: many metrics, or one of anything else."""
        for count, entry in enumerate(self.entries[:_BATCH]):
            if entry["op"] != "metric":
                return self.entries[: max(count, 1)]
        return self.entries[:_BATCH]

    def remove(self, batch: list[Entry]) -> None:
        """Forget the first entries, now sent, with the files that were stored for them."""
        for entry in batch:
            path = Path(entry.get("path", ""))
            # A journal from elsewhere may name any file: only those of this folder are deleted.
            ours = self._folder is None or path.resolve().is_relative_to(self._folder.resolve())
            if entry.get("stored") and ours:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty: others wait there
                    path.parent.rmdir()
                    path.parent.parent.rmdir()
                    self.spool = None
        del self.entries[: len(batch)]
        self._journaled = max(0, self._journaled - len(batch))

    def put_back(self, entries: list[Entry]) -> None:
        """Take entries that were sent before all others again."""
        self.entries[:0] = entries
        self._journaled = 0
        if self.journal is not None:
            self.journal.unlink(missing_ok=True)

    def keep(self) -> None:
        """Journal what is still unsent; delete the journal when nothing is."""
        if self.journal is None:
            return
        if not self.entries:
            self.journal.unlink(missing_ok=True)
        elif self._journaled < len(self.entries):
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("a") as file:
                # The newline comes first, so that a line torn by a kill cannot spoil the next.
                file.writelines("\n" + json.dumps(e) for e in self.entries[self._journaled :])
            self._journaled = len(self.entries)

    def discard(self) -> None:
        """Delete the waiting artifacts if there is no folder to find them in later."""
        if self.spool and self._folder is None:
            shutil.rmtree(self.spool, ignore_errors=True)
            self.spool = None


_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "metric": {"key": str, "value": (int, float), "step": int, "time": int},
    "tags": {"tags": dict},
    "file": {"path": str, "folder": str, "stored": bool},
    "dataset": {
        "name": str,
        "place": str,
        "digest": str,
        "context": str,
        "columns": dict,
        "rows": int,
    },
    "model": {"path": str, "loader": str, "digest": str, "example": list},
    "note": {"text": str},
    "status": {"status": str},
}


def _whole(entry: Entry) -> bool:
    """Whether an entry has what its kind needs."""
    fields = _FIELDS.get(str(entry.get("op")))
    if fields is None or entry.keys() != {"op", *fields}:
        return False
    return all(isinstance(entry[name], kind) for name, kind in fields.items())
