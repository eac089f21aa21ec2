"""Configurations, and with them every ``--help``, load nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cpcdr.commands import COMMANDS, config_of
from cpcdr.runtime.cli import parse

HEAVY = {"torch", "torchvision", "ray", "mlflow", "sklearn", "matplotlib"}
PACKAGE = Path(__file__).resolve().parents[1] / "cpcdr"


def loaded_by(code: str) -> set[str]:
    """Top-level packages in ``sys.modules`` of a fresh Python after ``code``."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return set(finished.stdout.split())


def test_configurations_are_light() -> None:
    paths = sorted(PACKAGE.rglob("config.py"))
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in paths]
    assert "cpcdr.train.config" in names and len(names) >= 12
    loaded = loaded_by(f"import {', '.join(names)}")
    assert "yaml" in loaded and not loaded & HEAVY


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_and_its_configuration_have_the_same_defaults(name: str) -> None:
    assert parse(config_of(name), "", []) == config_of(name)()
