"""The metrics of a training as JSON lines: written by rank 0, tailed by the driver.

A metric that is not finite is null: JSON has no NaN.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.strict_json import damaged_line, parse_object, read_json_lines, to_json


def append_history(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_json(row) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """All whole lines; the half-written last line of a killed writer is left out.

    Raises:
        InputError: another line is damaged, or has no step.
    """
    rows = read_json_lines(path)
    for number, row in enumerate(rows, 1):
        if not _has_step(row):
            raise damaged_line(path, number)
    return rows


def _has_step(row: Mapping[str, Any]) -> bool:
    step = row.get("step")
    return type(step) is int and 0 <= step < 2**53


def cut_history(path: Path, step: int) -> None:
    """Drop the lines after ``step``: a resumed training makes them again."""
    kept = [row for row in read_history(path) if row["step"] <= step]
    write_atomic(path, "".join(to_json(row) + "\n" for row in kept))


class HistoryTail:
    """Reads the lines that were added since the last read, however long the history is."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.inode, self.step = path, 0, 0, 0

    def new_rows(self) -> list[dict[str, Any]]:
        """Rows of later steps than any row returned before, in order."""
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self.inode:  # cut back by a resumed training: a new file
                    self.inode, self.offset = inode, 0
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        fresh = []
        for line in whole.split(b"\n")[:-1]:
            with suppress(ValueError):  # damaged: the training itself refuses to resume from it
                row = parse_object(line)
                if _has_step(row) and row["step"] > self.step:
                    self.step = row["step"]
                    fresh.append(row)
        return fresh
