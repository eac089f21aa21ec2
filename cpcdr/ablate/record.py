"""The folders of a study as records of its trials: what goes into their MLflow runs."""

from dataclasses import dataclass, field
from typing import Any

from cpcdr.ablate.trials import StudyPlan
from cpcdr.runtime.config import to_plain
from cpcdr.train.history import read_history
from cpcdr.trials.child_run import ChildRun, Config


@dataclass
class StudyRecords:
    """Reads what trials write into their folders; they have their names as keys."""

    plan: StudyPlan
    protocol: str
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All trials of the plan."""
        return len(self.plan.trials)

    def key(self, config: Config) -> str:
        """The trial's name."""
        return str(config["trial"])

    def child_run(self, key: str) -> ChildRun:
        """The history of the training, and the scores of a finished trial."""
        trial = self.plan.trial(key)
        history = read_history(self.plan.folder(trial) / "history.jsonl")
        rows = [({k: v for k, v in row.items() if k != "step"}, row["step"]) for row in history]
        result = self.plan.result(trial)
        if result:
            numbers = {k: v for k, v in result.items() if isinstance(v, float)}
            rows.append(({f"final/{name}": value for name, value in numbers.items()}, 0))
            rows.append(({k: numbers[k] for k in ("miou", "accuracy")}, self.plan.config.steps))
        params = {"factors": to_plain(trial.variant), **to_plain(self.plan.settings(trial))}
        tags = {"cpcdr.protocol": self.protocol}
        tags |= {"cpcdr.alarm": self.errors[key]} if key in self.errors else {}
        return ChildRun(key, params, rows, tags, failed=key in self.errors)

    def report(self, key: str, config: Config, result: dict[str, Any]) -> str:
        """How far the training is; everything else is in the trial's folder."""
        return f"{key}: step {result['step']}/{self.plan.config.steps}"

    def end(self, key: str, error: str) -> None:
        """Keep the error of a trial that failed."""
        if error:
            self.errors[key] = error

    def ended(self) -> int:
        """Trials that are finished or have failed."""
        return len(self.unrecorded()) + len(self.errors)

    def unrecorded(self) -> list[str]:
        """All finished trials: nothing notes which of them an earlier start has recorded."""
        return [trial.name for trial in self.plan.trials if self.plan.result(trial) is not None]

    def recorded(self, key: str) -> None:
        """Nothing to note: recording a trial again changes nothing."""
