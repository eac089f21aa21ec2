"""MLflow gets what the ledger has, wherever the driver was killed between the two."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.tune.ledger import DONE, FAILED, STOPPED, Ledger
from cpcdr.tune.record import LedgerRecords


@pytest.mark.slow  # Ray's import
def test_every_report_arrives_once_and_every_run_ends(tmp_path: Path) -> None:
    from cpcdr.trials.record import RecordTrials

    def recorder() -> tuple[RecordTrials, Ledger]:
        ledger = Ledger(tmp_path / "trials.jsonl")
        records = LedgerRecords(ledger, 3, "miou", 90)
        return RecordTrials(records, TrackingConfig(), "", "key", "tune"), ledger

    def told(to: RecordTrials, number: int, step: int) -> None:
        trial = SimpleNamespace(config={"number": number, "reported": 0, "gain": 20.0 + step})
        row = {"step": step, "miou": step / 100 + number}
        to.on_trial_result(0, [], trial, {**row, "row": row})

    first, ledger = recorder()
    for _ in range(3):
        ledger.add({"gain": 20.0})
    told(first, 0, 30)
    told(first, 0, 30)  # a resumed trial repeats its last report
    # Killed after the ledger's lines and before MLflow's.
    for number, step, status in ((0, 60, STOPPED), (1, 30, FAILED)):
        row = {"step": step, "miou": step / 100 + number}
        ledger.report(number, row, {"gain": 20.0 + step})
        ledger.end(number, status, "out of memory" * (status == FAILED))
    ledger.report(2, {"step": 30, "miou": 2.3}, {"gain": 50.0})

    again, ledger = recorder()
    with again:
        told(again, 2, 60)
        told(again, 2, 90)
        again.on_trial_complete(0, [], SimpleNamespace(config={"number": 2}))
    with recorder()[0]:
        pass
    assert [trial.status for trial in ledger.trials] == [STOPPED, FAILED, DONE]
    assert all(trial.recorded for trial in Ledger(ledger.path).trials)

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["trial-0", "trial-1", "trial-2"]
    ends = [runs[f"trial-{number}"].info.status for number in range(3)]
    assert ends == ["FINISHED", "FAILED", "FINISHED"]
    assert runs["trial-1"].data.tags["cpcdr.alarm"] == "out of memory"
    ends = [runs[f"trial-{number}"].data.tags["cpcdr.trial_end"] for number in range(3)]
    assert ends == [STOPPED, FAILED, DONE]
    for number, steps in enumerate(([30, 60], [30], [30, 60, 90])):
        run_id = runs[f"trial-{number}"].info.run_id
        for name, value in (("miou", lambda s, n=number: s / 100 + n), ("parameter/gain", gain)):
            points = client.get_metric_history(run_id, name)
            assert [point.step for point in points] == steps
            assert [point.value for point in points] == pytest.approx([value(s) for s in steps])


def gain(step: int) -> float:
    return 20.0 + step


def test_what_the_progress_bar_says_and_which_trials_are_complete(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl")
    records = LedgerRecords(ledger, 3, "miou", 90)
    for number, step in ((0, 30), (1, 90), (2, 30)):
        ledger.add({"gain": 20.0})
        config = {"number": number, "reported": 0, "gain": 25.0}
        key, result = records.key(config), {"row": {"step": step, "miou": step / 100}}
        expected = "best now miou 30.0" if number == 0 else "best now miou 90.0"
        assert records.report(key, config, result) == expected
        assert records.report(key, config, result) is None, "known already"
        records.end(key, "out of memory" if number == 2 else "")
    assert [trial.status for trial in ledger.trials] == [STOPPED, DONE, FAILED]
    assert ledger.trials[0].values == [{"gain": 25.0}]
    assert records.ended() == 3 and list(records.unrecorded()) == ["0", "1", "2"]
    records.recorded("1")
    assert list(records.unrecorded()) == ["0", "2"]
    failed = records.child_run("2")
    assert failed.failed and failed.tags["cpcdr.alarm"] == "out of memory"
