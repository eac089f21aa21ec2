"""Manifests for datasets that a test writes by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cpcdr.dataset import LAYOUT


def manifest(number: int, /, **changes: Any) -> str:
    """The text of a manifest of so many frames."""
    entries: dict[str, Any] = {
        "hash": "h",
        "config_hash": "c",
        "config": {"frames": "", "options": {}, "regions": {}, "size": [0, 0]},
        "frames": number,
        "rejected": 0,
        "size": [8, 8],
        "regions_per_frame": 1.0,
        "source": "by hand",
        "depth": "by hand",
    }
    return json.dumps(entries | changes)


def write_manifest(folder: Path, text: str) -> Path:
    """Make the files in ``folder`` a dataset."""
    path = folder / LAYOUT.manifest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
