"""The command works where only the wheel is installed, in another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import cpcdr

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, folder: Path) -> str:
    """Standard output of a command that knows nothing of the repository."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(folder: Path) -> Path:
    """An environment with the project's wheel, and this environment's packages behind it."""
    source, wheels, environment = (folder / name for name in ("source", "wheels", "environment"))
    shutil.copytree(ROOT / "cpcdr", source / "cpcdr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps")
    options = (*offline, "--no-build-isolation", "--wheel-dir", str(wheels))
    run(*pip, "wheel", *options, str(source), folder=folder)
    shutil.rmtree(source)
    venv.create(environment, symlinks=True)
    python = str(environment / "bin" / "python")
    (wheel,) = wheels.glob("cpcdr-*.whl")
    run(*pip, "--python", python, "install", *offline, str(wheel), folder=folder)
    # Python does not read the .pth files of this folder, such as that of an editable install.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment


@pytest.mark.slow
def test_the_wheel_alone_is_enough(tmp_path: Path) -> None:
    environment, empty = installed(tmp_path), tmp_path / "empty"
    empty.mkdir()
    python, command = (str(environment / "bin" / name) for name in ("python", "cpcdr"))
    where = run(python, "-c", "import cpcdr; print(cpcdr.__file__)", folder=empty).strip()
    assert Path(where).is_relative_to(environment)
    assert run(command, "--version", folder=empty) == f"cpcdr {cpcdr.__version__}\n"
    assert "--frames" in run(command, "demo", "--help", folder=empty)
    opened = "from cpcdr.depth.sources import open_depth; print(open_depth('street').name)"
    assert run(python, "-c", opened, folder=empty) == "street\n", "its weights are in the wheel"
    street = "synthetic:streets=2,frames=2,height=64,width=128"
    options = ("--out", "d", "--engine", "local", "--tracking", "none")
    told = run(command, "prepare", "--frames", street, *options, folder=empty)
    result = json.loads(told.splitlines()[-1].removeprefix("RESULT "))
    assert result["frames"] == 4 and (empty / "d" / "__cpcdr__" / "manifest.json").is_file()
