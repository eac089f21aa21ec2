"""The notebooks run from top to bottom in an empty folder, and their pictures are pictures."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def pictures_of(notebook: nbformat.NotebookNode) -> list[np.ndarray]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [o["data"]["image/jpeg"] for o in outputs if "image/jpeg" in o.get("data", {})]
    return [cv2.imdecode(np.frombuffer(base64.b64decode(d), np.uint8), 1) for d in data]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_stored_as_it_ran_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(pictures_of(notebook)) >= 5 and path.stat().st_size < 800_000
    text = path.read_text(encoding="utf-8")
    assert "/tmp" not in text and "/home" not in text and '"stderr"' not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    stored = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises at the first error
    seen, before = pictures_of(notebook), pictures_of(stored)
    assert [picture.shape for picture in seen] == [picture.shape for picture in before]
    assert all(picture.std() > 20 for picture in seen)
    assert not list(ROOT.glob("runs*")), "it writes into its own folder"
