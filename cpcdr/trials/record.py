"""Recording trials in MLflow as they report: one child run each, written by the driver.

A child run is found by its key, and a step that it already has is not logged again, so that sending
everything twice changes nothing: after the driver was killed, the next start sends what is missing.
Imports Ray: load it only within a session.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune import Callback

from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.trials.child_run import ChildRun, TrialRecords


class RecordTrials(Callback):
    """A callback of Ray Tune; as a context, it closes every run that it opened.

    Args:
        parent: MLflow id of the run of the search or study.
        key: identifies the search or study in the tracking store.
    """

    def __init__(
        self, records: TrialRecords, tracking: TrackingConfig, parent: str, key: str, title: str
    ) -> None:
        self.records, self.title, self.key = records, title, key
        self.tracking = replace(tracking, parent=parent)
        self.runs: dict[str, Run] = {}
        self.bar: Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a progress bar and open runs cannot be pickled.
        return {**vars(self), "bar": None, "runs": {}}

    def __enter__(self) -> RecordTrials:
        """Record what an earlier start left unrecorded, and show the progress bar."""
        for key in self.records.unrecorded():
            self._close(key)
        done, total = self.records.ended(), self.records.total
        self.bar = Progress(total=total, initial=done, desc=self.title, unit="trial")
        return self

    def __exit__(self, *error: object) -> None:
        """Close the runs of trials that were stopped, and the bar."""
        for run in self.runs.values():
            run.close("KILLED")
        self.runs.clear()
        if self.bar:
            self.bar.close()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note a report and send what is new."""
        key = self.records.key(trial.config)
        status = self.records.report(key, trial.config, result)
        if status is None:
            return
        self._send(key)
        if self.bar:
            self.bar.set_postfix_str(status)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the end, after all steps or early."""
        self._end(self.records.key(trial.config), "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the failure and report its reason."""
        key = self.records.key(trial.config)
        reason = _last_line(trial.error_file)
        print(f"trial {key} failed: {reason}", file=sys.stderr)
        self._end(key, reason)

    def _end(self, key: str, error: str) -> None:
        self.records.end(key, error)
        self._close(key)
        if self.bar:
            self.bar.reach(self.records.ended())

    def _close(self, key: str) -> None:
        child = self._send(key)
        run = self.runs.pop(key)
        run.tags(child.tags)
        run.close("FAILED" if child.failed else "FINISHED")
        self.records.recorded(key)

    def _send(self, key: str) -> ChildRun:
        """Send everything that a trial has reported; the run skips the steps that it has."""
        child = self.records.child_run(key)
        if key not in self.runs:
            tracking = replace(self.tracking, run_name=child.name)
            self.runs[key] = open_run(tracking, "trial", f"{self.key}-{key}", child.params)
            self.runs[key].tags(child.tags)
        for values, step in child.rows:
            self.runs[key].metrics(values, step)
        self.runs[key].flush()
        return child


def _last_line(file: str | None) -> str:
    """The exception at the end of a traceback on the driver's disk.

    ``Trial.get_error`` reads a copy that Tune makes in the background, often after this is called.
    """
    text = Path(file).read_text(encoding="utf-8").strip() if file else ""
    return text.splitlines()[-1] if text else "unknown error"
