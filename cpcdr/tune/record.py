"""The ledger of a search as records of its trials: what goes into their MLflow runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cpcdr.trials.child_run import ChildRun, Config
from cpcdr.tune.ledger import DONE, FAILED, OPEN, STOPPED, Ledger, Trial

_BOOKKEEPING = ("number", "reported")
"""What a trial is given beside its parameters."""


@dataclass
class LedgerRecords:
    """Writes every report and end into the ledger; trials have their numbers as keys."""

    ledger: Ledger
    total: int
    metric: str
    steps: int

    def key(self, config: Config) -> str:
        """The trial's number."""
        return str(config["number"])

    def child_run(self, key: str) -> ChildRun:
        """Scores and parameters at each report; at the end, how it ended and why it failed."""
        trial = self._trial(key)
        rows = []
        for report, parameters in zip(trial.reports, trial.values, strict=True):
            values = {name: value for name, value in report.items() if name != "step"}
            values |= {f"parameter/{name}": value for name, value in parameters.items()}
            rows.append((values, int(report["step"])))
        failed = trial.status == FAILED
        tags = {} if trial.status == OPEN else {"cpcdr.trial_end": trial.status}
        tags |= {"cpcdr.alarm": trial.reason} if failed else {}
        return ChildRun(f"trial-{key}", trial.parameters, rows, tags, failed)

    def report(self, key: str, config: Config, result: dict[str, Any]) -> str | None:
        """Note a report; a resumed trial repeats its last one."""
        parameters = {k: v for k, v in config.items() if k not in _BOOKKEEPING}
        if not self.ledger.report(int(key), result["row"], parameters):
            return None
        best = max(t.score(self.metric) for t in self.ledger.trials if t.reports)
        return f"best now {self.metric} {100 * best:.1f}"

    def end(self, key: str, error: str) -> None:
        """Note whether the trial failed, was stopped early or is complete."""
        trial = self._trial(key)
        complete = DONE if trial.step >= self.steps else STOPPED
        self.ledger.end(trial.number, FAILED if error else complete, error)

    def ended(self) -> int:
        """Trials that have ended."""
        return len(list(self.ledger.ended()))

    def unrecorded(self) -> Iterator[str]:
        """Trials that ended when the driver was killed on the way to MLflow."""
        return (str(trial.number) for trial in self.ledger.ended() if not trial.recorded)

    def recorded(self, key: str) -> None:
        """Note that MLflow has everything."""
        self.ledger.recorded(int(key))

    def _trial(self, key: str) -> Trial:
        return self.ledger.trials[int(key)]
