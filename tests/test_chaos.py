"""A short form of the chaos command: whatever is killed, the outcome is the undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).with_name("chaos.py")


@pytest.mark.survival
def test_a_few_kills_change_nothing() -> None:
    command = [sys.executable, str(CHAOS), "--kills", "4", "--only", "pretrain-local", "finetune"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=1100, check=False)
    lines = process.stdout.splitlines()
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    result = json.loads(lines[-1].removeprefix("RESULT "))
    assert result["kills"] >= 4 and not result["differences"]
