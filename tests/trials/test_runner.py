"""Trials through a real Ray Tune: what each gets, failures, records and the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from notebook import Notebook

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.trials.runner import TrialSlots, run_trials

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _workers_get_this_module_by_value(ray_local: Any) -> Iterator[None]:
    module = sys.modules[__name__]
    ray_local.cloudpickle.register_pickle_by_value(module)
    yield
    ray_local.cloudpickle.unregister_pickle_by_value(module)


def letter_trial(parameters: dict[str, Any], folder: Path) -> None:
    """Reports twice; ``b`` always fails after its first report."""
    import ray
    import torch
    from ray import tune

    letter = parameters["letter"]
    reserved = ray.get_runtime_context().get_assigned_resources()
    with (folder / f"{letter}.txt").open("a") as file:
        file.write(f"{torch.get_num_threads()} threads, {reserved.get('CPU')} CPUs\n")
    for step in (1, 2):
        tune.report({"step": step, "score": step / 10})
        if letter == "b":
            raise RuntimeError("b is bad")


def run(folder: Path, letters: list[str], slots: TrialSlots) -> Notebook:
    from ray import tune

    from cpcdr.trials.record import RecordTrials

    notebook = Notebook(folder / "lines", len(letters))
    with RecordTrials(notebook, TrackingConfig(), "", "study", "letters") as recorder:
        run_trials(
            letter_trial,
            folder,
            {"letter": tune.grid_search(letters)},
            name=lambda parameters: f"letter-{parameters['letter']}",
            folder=folder / "tune",
            slots=slots,
            callback=recorder,
        )
    return notebook


def results(folder: Path) -> Any:
    """What Ray's own reader makes of an experiment."""
    from ray.tune import ExperimentAnalysis, ResultGrid

    return ResultGrid(ExperimentAnalysis(str(folder)))


def statuses() -> dict[str, str]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return {run.info.run_name: run.info.status for run in found}


def test_trials_run_in_their_slots_and_one_fails(
    tmp_path: Path, ray_local: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("cpcdr.trials.runner.logical_cpus", lambda: 4)  # as Ray was started
    notebook = run(tmp_path, ["a", "b"], TrialSlots(concurrent=2, threads=3))
    assert (tmp_path / "a.txt").read_text() == "3 threads, 2.0 CPUs\n"
    assert (tmp_path / "b.txt").read_text().count("\n") == 2, "a failing trial is tried twice"
    assert [line["step"] for line in notebook.lines("a") if "step" in line] == [1, 2]
    assert statuses() == {"letter a": "FINISHED", "letter b": "FAILED"}
    assert "trial b failed: RuntimeError: b is bad" in capsys.readouterr().err
    assert (
        "b is bad" in next((tmp_path / "tune" / "000" / "letter-b").glob("error.txt")).read_text()
    )

    # The next start has nothing of the first one but what was recorded.
    run(tmp_path, ["c"], TrialSlots(concurrent=1, threads=1))
    first, second = (results(tmp_path / "tune" / number) for number in ("000", "001"))
    assert first.num_errors == 1 and first.num_terminated == 1 and second.num_errors == 0
    assert first.get_best_result("score", "max").config == {"letter": "a"}
    assert list(second.get_dataframe()["score"]) == [0.2]
    assert list(second[0].metrics_dataframe["score"]) == [0.1, 0.2]
    assert statuses()["letter c"] == "FINISHED" and len(statuses()) == 3


def test_a_machine_is_divided_among_its_trials(
    tmp_path: Path, ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.cpu_count() or 1
    monkeypatch.setattr("cpcdr.trials.runner.logical_cpus", lambda: 4)
    assert TrialSlots(3).resources() == {"cpu": 4 / 3}
    run(tmp_path, ["a"], TrialSlots(concurrent=real))
    assert (tmp_path / "a.txt").read_text() == f"1 threads, {4 / real} CPUs\n"
    run(tmp_path, ["c"], TrialSlots(concurrent=1))
    assert (tmp_path / "c.txt").read_text() == f"{real} threads, 4.0 CPUs\n"


def test_on_a_cluster_machines_come_when_they_are_asked_for(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    slots = TrialSlots(concurrent=2)
    assert slots.resources() == {"cpu": 1.0} and slots.per_machine == 1


def test_a_trial_that_fits_no_machine_is_refused(tmp_path: Path, ray_local: Any) -> None:
    slots = TrialSlots(2, gpus=2.0, remedy="lower --gpus-per-trial")
    with pytest.raises(InputError, match=r"2 GPUs do not fit .*; lower --gpus-per-trial\."):
        run(tmp_path, ["a"], slots)
    assert not (tmp_path / "a.txt").exists()


def test_ctrl_c_stops_at_once_and_closes_the_run(tmp_path: Path) -> None:
    script = Path(__file__).with_name("endless_driver.py")
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stderr=subprocess.PIPE,
        # A test runner may itself be a background job, whose children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 180
    notebook = Notebook(tmp_path / "lines", 1)
    while len(notebook.lines()) < 2:  # the run is open once the second report is noted
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode != 0 and b"KeyboardInterrupt" in errors
    assert statuses() == {"letter a": "KILLED"}
