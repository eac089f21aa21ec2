"""Where things are and what to run next: one text, printed by the outermost command only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpcdr.commands import COMMANDS
from cpcdr.runtime.cli import main
from cpcdr.runtime.ending import end_with, taken_ending
from cpcdr.runtime.tracking.config import TrackingConfig

ROOT = Path(__file__).resolve().parents[2]
THROUGH = {"tune_regions": "cpcdr/tune/report.py", "tune_pretrain": "cpcdr/tune/report.py"}
"""Commands that end in another file."""


def test_places_and_commands() -> None:
    end_with(
        {"dataset": Path("runs/my data"), "rejected": "", "run": "1f"},
        ["pretrain", "--data", Path("runs/my data")],
    )
    assert taken_ending() == (
        "\n  dataset  runs/my data\n  run      1f\n"
        "\nnext:\n  cpcdr pretrain --data 'runs/my data'\n"
    )
    assert taken_ending() == ""


def test_the_outermost_is_heard_before_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    def inner() -> None:
        end_with({"inner": "a"})

    def outer(config: TrackingConfig) -> dict[str, Any]:
        inner()
        end_with({"outer": "b"})
        return {"a": 1}

    with pytest.raises(SystemExit) as left:
        main(TrackingConfig, outer, "", [])
    assert left.value.code == 0
    assert capsys.readouterr().out == '\n  outer  b\nRESULT {"a": 1}\n'


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "benchmark"])
def test_every_command_has_one(name: str) -> None:
    file = ROOT / THROUGH.get(name, f"cpcdr/commands/{name}.py")
    assert "    end_with(" in file.read_text(encoding="utf-8")
