"""The page of a comparison, from real runs in a real store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpcdr.commands.compare import compare
from cpcdr.commands.config import CompareConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run


def record(name: str, lr: float, miou: float, parent: str = "") -> str:
    tracking = TrackingConfig(run_name=name, parent=parent)
    config = {"lr": lr, "seed": 0, "protocol": "synthetic"}
    with open_run(tracking, "evaluate", name, config) as run:
        for step in range(3):
            run.metrics({"loss": 3.0 - lr * step}, step)
        run.metrics({"miou": miou}, 0)
        run.figure("predictions", np.full((8, 8, 3), 40, np.uint8))
        return run.run_id


@pytest.mark.slow
def test_differences_best_run_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = record("one", 0.1, 0.2), record("two", 0.2, 0.4)
    config = CompareConfig(out=tmp_path / "page.html")
    result = compare(config)
    assert result["runs"] == 2 and result["differing"] == ["lr"]
    assert result["best"] == {"synthetic": {"run_id": second, "miou": 0.4}}
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 2, "a figure of each run"
    assert "http" not in page.replace("data:image", ""), "nothing is fetched from anywhere"
    assert "one" in page and "0.2" in page and "seed" not in page
    table = capsys.readouterr().out
    assert "miou" in table and "lr" in table and "two" in table
    child = record("child", 0.3, 0.1, parent=first)
    trials = compare(replace(config, parent=first))
    assert trials["runs"] == 1 and trials["best"]["synthetic"]["run_id"] == child


@pytest.mark.slow
def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no experiment 'nothing'"):
        compare(CompareConfig("nothing", out=tmp_path / "page.html"))
    record("one", 0.1, 0.2)
    with pytest.raises(InputError, match="has no such runs"):
        compare(CompareConfig(kinds=("tune",), out=tmp_path / "page.html"))
