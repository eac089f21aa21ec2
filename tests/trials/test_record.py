"""Child runs in a real MLflow: every report once, every end, after any interruption."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from notebook import Notebook

from cpcdr.runtime.tracking.config import TrackingConfig

pytestmark = pytest.mark.slow  # Ray's and MLflow's imports


def recorder(path: Path) -> Any:
    from cpcdr.trials.record import RecordTrials

    return RecordTrials(Notebook(path, 3), TrackingConfig(), "parent-id", "study", "letters")


def trial(letter: str, error_file: Path | None = None) -> Any:
    return SimpleNamespace(config={"letter": letter}, error_file=error_file)


def report(to: Any, letter: str, step: int) -> None:
    to.on_trial_result(0, [], trial(letter), {"step": step, "score": step / 10})


def runs() -> dict[str, Any]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "a trial has one run"
    return {run.info.run_name.removeprefix("letter "): run for run in found}


def scores(run: Any) -> list[tuple[int, float]]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "score")]


def test_ends_of_trials_are_ends_of_runs(tmp_path: Path, capsys: Any) -> None:
    with recorder(tmp_path / "lines") as to:
        for letter in "abc":
            report(to, letter, 1)
            report(to, letter, 1)  # a resumed trial repeats its last report
        to.on_trial_complete(0, [], trial("a"))
        (tmp_path / "error.txt").write_text("Traceback ...\nRuntimeError: too bad\n\n")
        to.on_trial_error(0, [], trial("b", tmp_path / "error.txt"))
        assert {name: run.info.status for name, run in runs().items()} == {
            "a": "FINISHED",
            "b": "FAILED",
            "c": "RUNNING",
        }
        assert to.bar.n == 2 and to.bar.total == 3
    found = runs()
    assert found["c"].info.status == "KILLED", "stopped with the command"
    assert [scores(run) for run in found.values()] == [[(1, 0.1)]] * 3
    assert found["a"].data.tags["end"] == "good" and "end" not in found["c"].data.tags
    assert found["b"].data.tags["end"] == "RuntimeError: too bad"
    assert all(run.data.tags["mlflow.parentRunId"] == "parent-id" for run in found.values())
    assert found["a"].data.params == {"letter": "a"}
    assert "trial b failed: RuntimeError: too bad" in capsys.readouterr().err


def test_the_next_start_sends_what_a_killed_driver_had_not(tmp_path: Path) -> None:
    first = recorder(tmp_path / "lines").__enter__()
    report(first, "a", 1)
    report(first, "b", 1)
    # Killed: two reports and an end are noted, and not sent.
    first.records.report("a", {}, {"step": 2, "score": 0.2})
    first.records.end("a", "out of memory")
    first.records.report("b", {}, {"step": 2, "score": 0.2})

    with recorder(tmp_path / "lines") as again:
        assert runs()["a"].info.status == "FAILED" and scores(runs()["a"]) == [(1, 0.1), (2, 0.2)]
        assert again.bar.n == 1
        report(again, "b", 3)
        again.on_trial_complete(0, [], trial("b"))
    assert scores(runs()["b"]) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert runs()["b"].info.status == "FINISHED"
    before = Notebook(tmp_path / "lines", 3).lines()
    with recorder(tmp_path / "lines"):
        pass
    assert Notebook(tmp_path / "lines", 3).lines() == before, "everything was recorded"


def test_tune_can_pickle_it_while_runs_are_open(tmp_path: Path) -> None:
    with recorder(tmp_path / "lines") as to:
        report(to, "a", 1)
        copy = pickle.loads(pickle.dumps(to))
        assert copy.runs == {} and copy.bar is None and copy.key == "study"
        assert list(to.runs) == ["a"] and to.bar is not None
