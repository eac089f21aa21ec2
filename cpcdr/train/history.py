"""The metrics of a training as JSON lines: written by rank 0, tailed by the driver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpcdr.config import write_atomic


def append_history(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """All whole lines; the half-written last line of a killed writer is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def cut_history(path: Path, step: int) -> None:
    """Drop the lines after ``step``: a resumed training makes them again."""
    kept = [row for row in read_history(path) if row["step"] <= step]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))
