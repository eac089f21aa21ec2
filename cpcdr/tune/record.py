"""Tune's results into MLflow, written by the driver: one child run for each trial."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from tqdm import tqdm

from cpcdr.tracking import Run, TrackingConfig, open_run

METRICS = ("miou", "accuracy", "loss_over_lnK", "regions_per_frame")


class RecordTrials(Callback):
    """Opens a run when a trial reports first, logs every report, closes it with the trial.

    Args:
        tracking: where to record.
        parent: MLflow id of the search's run.
        key: identifies the search; a resumed search goes on in the same child runs.
        total: trials of the whole search, for the progress bar.
    """

    def __init__(self, tracking: TrackingConfig, parent: str, key: str, total: int) -> None:
        self.tracking, self.parent, self.key, self.total = tracking, parent, key, total
        self.runs: dict[str, Run] = {}
        self.ended = 0
        self._shown: tqdm | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks to resume; a progress bar and open runs stay behind.
        return {**vars(self), "_shown": None, "runs": {}}

    @property
    def bar(self) -> tqdm:
        """Counts the finished trials, those of an earlier start included."""
        if self._shown is None:
            self._shown = tqdm(
                total=self.total, initial=self.ended, desc="tune", unit="trial", dynamic_ncols=True
            )
        return self._shown

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Log one report."""
        if "miou" not in result:
            return
        run = self._run(trial)
        run.metrics({name: result[name] for name in METRICS}, step=int(result["step"]))
        run.flush()
        best = max(t.last_result.get("miou", 0.0) for t in trials if t.last_result)
        self.bar.set_postfix_str(f"best mIoU {100 * best:.1f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the trial's run."""
        self._end(trial, "FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the trial's run as failed, and say why."""
        error = str(trial.get_error() or "unknown error").strip().splitlines()[-1]
        tqdm.write(f"trial {trial.trial_id} failed: {error}")
        self._end(trial, "FAILED")

    def _end(self, trial: Any, status: str) -> None:
        self._run(trial).close(status)
        self.bar.update()
        self.ended += 1
        if self.ended >= self.total:
            self.bar.close()

    def _run(self, trial: Any) -> Run:
        if trial.trial_id not in self.runs:
            tracking = TrackingConfig(
                self.tracking.tracking,
                self.tracking.experiment,
                f"trial-{trial.trial_id}",
                self.parent,
            )
            key = f"{self.key}-{trial.trial_id}"
            self.runs[trial.trial_id] = open_run(tracking, "trial", key, trial.config)
        return self.runs[trial.trial_id]
