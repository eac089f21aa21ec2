"""What a run has yet to send: in memory, and on disk while the server is away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
"""Something to log, as plain JSON: ``op`` is metric, tags, file, dataset or status."""

_BATCH = 1000  # metrics in one request, MLflow's limit


class Outbox:
    """Entries in the order they came.

    Attributes:
        entries: those not sent yet.
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
        for line in self.journal.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # torn by a kill
                entry = json.loads(line)
                if entry["op"] != "status":
                    self.entries.append(entry)
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
            if entry.get("stored"):
                path = Path(entry["path"])
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty: others wait there
                    path.parent.rmdir()
                    path.parent.parent.rmdir()
                    self.spool = None
        del self.entries[: len(batch)]
        self._journaled = max(0, self._journaled - len(batch))

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
