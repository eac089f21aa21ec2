"""Relative paths that a user gives mean the same wherever Ray runs a worker or a trial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from cpcdr.runtime.session import ray_session

with ray_session():
    from ray import tune

    def trial(config):
        tune.report({"folder": os.getcwd()})

    run = tune.RunConfig(storage_path=os.path.abspath("out"))
    results = tune.Tuner(trial, run_config=run).fit()
    print("FOLDER", results[0].metrics["folder"])
"""


@pytest.mark.slow
def test_a_trial_runs_in_the_folder_of_the_command(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"FOLDER {tmp_path}" in result.stdout.splitlines()
