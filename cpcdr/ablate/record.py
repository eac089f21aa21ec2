"""The trials of a study into MLflow, written by the driver: one child run for each trial."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback

from cpcdr.ablate.trials import StudyPlan, StudyTrial
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import Run, open_run
from cpcdr.train.history import read_history


class RecordStudy(Callback):
    """Sends what trials leave in their folders to their runs, and draws the progress bar.

    Args:
        tracking: where to record.
        parent: MLflow id of the study's run.
        key: identifies the study; a continued study goes on in the same child runs.
        plan: the trials and where they lie.
        protocol: name of the scores' protocol.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        parent: str,
        key: str,
        plan: StudyPlan,
        protocol: str,
    ) -> None:
        self.tracking, self.parent, self.key = tracking, parent, key
        self.plan, self.protocol = plan, protocol
        self.runs: dict[str, Run] = {}
        self.bar: Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks; a progress bar and open runs stay behind.
        return {**vars(self), "bar": None, "runs": {}}

    def start(self) -> None:
        """Record the trials of an earlier start, which was perhaps killed before it could."""
        finished = [trial for trial in self.plan.trials if self.plan.result(trial)]
        total = len(self.plan.trials)
        for trial in finished:
            self._sync(trial)
            self._close(trial, "FINISHED")
        self.bar = Progress(total=total, initial=len(finished), desc="ablate", unit="trial")

    def stop(self) -> None:
        """Close what is open: the runs of trials that were stopped, and the bar."""
        for run in self.runs.values():
            run.close("KILLED")
        self.runs.clear()
        if self.bar:
            self.bar.close()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Log the new lines of the trial's history."""
        mine = self.plan.trial(trial.config["trial"])
        self._sync(mine)
        if self.bar:
            self.bar.set_postfix_str(f"{mine.name}: step {result['step']}/{self.plan.steps}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the trial's run."""
        self._end(self.plan.trial(trial.config["trial"]), "FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the trial's run as failed, and say why."""
        error = str(trial.get_error() or "unknown error").strip().splitlines()[-1]
        Progress.write(f"trial {trial.config['trial']} failed: {error}")
        self._end(self.plan.trial(trial.config["trial"]), "FAILED")

    def _end(self, trial: StudyTrial, status: str) -> None:
        self._close(trial, status)
        if self.bar:
            self.bar.update()

    def _close(self, trial: StudyTrial, status: str) -> None:
        self._run(trial).close(status)
        del self.runs[trial.name]

    def _sync(self, trial: StudyTrial) -> None:
        """What the trial has written; the run skips the steps that it has already."""
        run = self._run(trial)
        for row in read_history(self.plan.folder(trial) / "history.jsonl"):
            run.metrics({k: v for k, v in row.items() if k != "step"}, row["step"])
        result = self.plan.result(trial)
        if result:
            numbers = {k: v for k, v in result.items() if isinstance(v, float)}
            run.metrics({f"final/{name}": value for name, value in numbers.items()}, 0)
            run.metrics({k: numbers[k] for k in ("miou", "accuracy")}, self.plan.steps)
        run.flush()

    def _run(self, trial: StudyTrial) -> Run:
        if trial.name not in self.runs:
            where = (self.tracking.tracking, self.tracking.experiment, trial.name, self.parent)
            params = {
                "factors": to_plain(trial.variant),
                **to_plain(self.plan.settings(trial)),
            }
            key = f"{self.key}-{trial.name}"
            run = open_run(TrackingConfig(*where), "trial", key, params)
            run.tags({"cpcdr.protocol": self.protocol})
            self.runs[trial.name] = run
        return self.runs[trial.name]
