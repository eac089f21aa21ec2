"""MLflow gets what the ledger has, wherever the driver was killed between the two."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.tune.ledger import DONE, FAILED, STOPPED, Ledger

pytestmark = pytest.mark.slow  # Ray's and MLflow's imports


def test_every_report_arrives_once_and_every_run_ends(tmp_path: Path) -> None:
    from cpcdr.tune.record import RecordTrials

    def recorder() -> RecordTrials:
        ledger = Ledger(tmp_path / "trials.jsonl")
        return RecordTrials(ledger, TrackingConfig(), "", "key", 3, "miou", 90)

    def told(to: RecordTrials, number: int, step: int) -> None:
        trial = SimpleNamespace(config={"number": number, "reported": 0, "gain": 20.0 + step})
        row = {"step": step, "miou": step / 100 + number}
        to.on_trial_result(0, [], trial, {**row, "row": row})

    first = recorder()
    for _ in range(3):
        first.ledger.add({"gain": 20.0})
    told(first, 0, 30)
    told(first, 0, 30)  # a trial that goes on repeats its last report
    # Killed after the ledger's lines and before MLflow's.
    for number, step, status in ((0, 60, STOPPED), (1, 30, FAILED)):
        row = {"step": step, "miou": step / 100 + number}
        first.ledger.report(number, row, {"gain": 20.0 + step})
        first.ledger.end(number, status, "out of memory" * (status == FAILED))
    first.ledger.report(2, {"step": 30, "miou": 2.3}, {"gain": 50.0})

    again = recorder()
    again.catch_up()
    told(again, 2, 60)
    told(again, 2, 90)
    again.on_trial_complete(0, [], SimpleNamespace(config={"number": 2}))
    recorder().catch_up()
    assert [trial.status for trial in again.ledger.trials] == [STOPPED, FAILED, DONE]
    assert all(trial.recorded for trial in recorder().ledger.trials)

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["trial-0", "trial-1", "trial-2"]
    ends = [runs[f"trial-{number}"].info.status for number in range(3)]
    assert ends == ["FINISHED", "FAILED", "FINISHED"]
    assert runs["trial-1"].data.tags["cpcdr.alarm"] == "out of memory"
    for number, steps in enumerate(([30, 60], [30], [30, 60, 90])):
        run_id = runs[f"trial-{number}"].info.run_id
        for name, value in (("miou", lambda s, n=number: s / 100 + n), ("parameter/gain", gain)):
            points = client.get_metric_history(run_id, name)
            assert [point.step for point in points] == steps
            assert [point.value for point in points] == pytest.approx([value(s) for s in steps])


def gain(step: int) -> float:
    return 20.0 + step
