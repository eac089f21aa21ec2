"""The script that puts a peer beside us: its table, and what it does again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "peers"))
    import against_lightly_train

    yield against_lightly_train
    del sys.modules["against_lightly_train"]


def test_a_finished_part_is_not_done_again(script: Any, tmp_path: Path) -> None:
    calls: list[int] = []

    def part(number: int) -> dict[str, Any]:
        calls.append(number)
        return {"cpu_seconds": number}

    for number in (3, 4):
        assert script.once(tmp_path / "a" / "part.json", part, number) == {"cpu_seconds": 3}
    assert calls == [3]


def test_cpu_time_is_that_of_the_child(script: Any) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint('done')"
    told, seconds = script.run(sys.executable, "-c", burn)
    assert told.splitlines()[-1] == "done" and 0.4 < seconds < 5


def test_the_table_has_intervals_over_seeds_and_the_paired_difference(script: Any) -> None:
    def found(ridge: float, cpu: float) -> dict[str, float]:
        return {"backbone_ridge": ridge, "backbone_kmeans": 0.2, "finetuned": 0.4} | (
            {"cpu_seconds": cpu} if cpu else {}
        )

    rows = {
        seed: {
            script.UNTRAINED: found(0.2, 0),
            script.PEER: found(0.30 + seed / 100, 98),
            script.OURS: found(0.32 + seed / 100, 100),
        }
        for seed in (0, 1, 2)
    }
    lines = script.table(rows).splitlines()
    (ridge,) = [line.split("  ") for line in lines if line.startswith("ridge")]
    cells = [cell.strip() for cell in ridge if cell.strip()]
    assert cells[1:] == [
        "20.0 [20.0, 20.0]", "31.0 [28.5, 33.5]", "33.0 [30.5, 35.5]", "2.0 [2.0, 2.0]",
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("CPU")).split()[2:] == ["0", "98", "100"]
