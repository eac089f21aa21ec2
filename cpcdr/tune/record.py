"""What Tune hears goes into the ledger first and into MLflow second: one child run a trial.

The driver writes all of it. A child run is found by the search's key and the trial's number, and a
step that it has is not logged again, so that telling everything twice changes nothing.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from ray.tune import Callback

from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.tune.ledger import DONE, FAILED, STOPPED, Ledger, Trial

_ABOUT = ("number", "reported")


class RecordTrials(Callback):
    """Notes every report, and every trial's end.

    Args:
        ledger: of the search.
        tracking: where runs are recorded.
        parent: MLflow id of the search's run.
        key: identifies the search in the tracking store.
        total: trials of the whole search, for the progress bar.
        metric: what the search goes by.
        steps: of a full trial.
    """

    def __init__(
        self,
        ledger: Ledger,
        tracking: TrackingConfig,
        parent: str,
        key: str,
        total: int,
        metric: str,
        steps: int,
    ) -> None:
        self.ledger, self.tracking, self.parent, self.key = ledger, tracking, parent, key
        self.total, self.metric, self.steps = total, metric, steps
        self.runs: dict[int, Run] = {}
        self._shown: Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a progress bar and open runs stay behind.
        return {**vars(self), "_shown": None, "runs": {}}

    @property
    def bar(self) -> Progress:
        """Counts the trials that have ended, those of an earlier start included."""
        if self._shown is None:
            done = len(list(self.ledger.ended()))
            self._shown = Progress(total=self.total, initial=done, desc="tune", unit="trial")
        return self._shown

    def catch_up(self) -> None:
        """Record the trials that had ended when the driver was killed on the way to MLflow."""
        for trial in self.ledger.ended():
            if not trial.recorded:
                self._close(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note a report."""
        number = trial.config["number"]
        row: dict[str, Any] = result["row"]
        parameters = {k: v for k, v in trial.config.items() if k not in _ABOUT}
        if self.ledger.report(number, row, parameters):
            self._log(self.ledger.trials[number])
            best = max(t.score(self.metric) for t in self.ledger.trials if t.reports)
            self.bar.set_postfix_str(f"best {self.metric} {100 * best:.1f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the end, full or early."""
        noted = self.ledger.trials[trial.config["number"]]
        self.ledger.end(noted.number, DONE if noted.step >= self.steps else STOPPED)
        self._close(noted)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note the failure, and say why."""
        reason = str(trial.get_error() or "unknown error").strip().splitlines()[-1]
        noted = self.ledger.trials[trial.config["number"]]
        Progress.write(f"trial {noted.number} failed: {reason}", file=sys.stderr)
        self.ledger.end(noted.number, FAILED, reason)
        self._close(noted)

    def _close(self, trial: Trial) -> None:
        self._log(trial)
        run = self._run(trial)
        failed = trial.status == FAILED
        tags = {"cpcdr.trial_end": trial.status} | ({"cpcdr.alarm": trial.reason} if failed else {})
        run.tags(tags)
        run.close("FAILED" if failed else "FINISHED")
        self.runs.pop(trial.number, None)
        self.ledger.recorded(trial.number)
        self.bar.n = len(list(self.ledger.ended()))
        self.bar.refresh()
        if self.bar.n >= self.total:
            self.bar.close()

    def _log(self, trial: Trial) -> None:
        """Send what the trial has reported; the run leaves out the steps that it has."""
        run = self._run(trial)
        for row, parameters in zip(trial.reports, trial.values, strict=True):
            values = {name: value for name, value in row.items() if name != "step"}
            changing = {f"parameter/{name}": value for name, value in parameters.items()}
            run.metrics(values | changing, step=int(row["step"]))
        run.flush()

    def _run(self, trial: Trial) -> Run:
        if trial.number not in self.runs:
            tracking = replace(self.tracking, run_name=f"trial-{trial.number}", parent=self.parent)
            key = f"{self.key}-{trial.number}"
            self.runs[trial.number] = open_run(tracking, "trial", key, trial.parameters)
        return self.runs[trial.number]
