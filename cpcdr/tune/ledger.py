"""The ledger of a search: every trial, report and end, in one append-only file.

Ray Tune's own snapshot is seconds old when a driver is killed, names trials at random and forgets
what early stopping compared them with. Here a trial is a number, its line is on disk before it
starts and its report before any decision depends on it. The same command therefore resumes exactly
where it was killed: proposals, early stopping and MLflow are all functions of this file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import write_atomic
from cpcdr.train.history import read_history
from cpcdr.tune.space import Parameters

OPEN, DONE, STOPPED, FAILED = "open", "done", "stopped", "failed"


@dataclass
class Trial:
    """One setting of the parameters.

    Attributes:
        number: from 0; 0 is the default configuration.
        parameters: values by name; they change in population-based training.
        reports: by ascending step; each has ``step``, scores and health metrics.
        values: the parameters at each report.
        status: ``open``, ``done``, ``stopped`` (early) or ``failed``.
        reason: of a failure.
        recorded: the tracking store has everything up to its end.
    """

    number: int
    parameters: Parameters
    reports: list[dict[str, Any]] = field(default_factory=list)
    values: list[Parameters] = field(default_factory=list)
    status: str = OPEN
    reason: str = ""
    recorded: bool = False

    @property
    def step(self) -> int:
        """Step of the last report."""
        return int(self.reports[-1]["step"]) if self.reports else 0

    def score(self, metric: str) -> float:
        """Score in the last report."""
        return float(self.reports[-1][metric])


class Ledger:
    """The trials of one search: read from the file, changed by appending lines to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        lines = read_history(path)
        # A killed writer may have left half a line, and the next one must not be appended to it.
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))
        for line in lines:
            self._apply(line)

    def add(self, parameters: Parameters) -> Trial:
        """Add a new trial."""
        self._write({"trial": len(self.trials), "parameters": parameters})
        return self.trials[-1]

    def report(self, number: int, report: dict[str, Any], parameters: Parameters) -> bool:
        """Note a report; False if it is already known (a resumed trial repeats its last one)."""
        if report["step"] <= self.trials[number].step:
            return False
        self._write({"trial": number, "report": report, "parameters": parameters})
        return True

    def end(self, number: int, status: str, reason: str = "") -> None:
        """Note that a trial is ``done``, ``stopped``, ``failed``, or ``open`` to be tried again."""
        self._write({"trial": number, "status": status, "reason": reason})

    def recorded(self, number: int) -> None:
        """Note that the tracking store has everything of an ended trial."""
        self._write({"trial": number, "recorded": True})

    def open_trials(self) -> Iterator[Trial]:
        """Trials that have not ended."""
        return (trial for trial in self.trials if trial.status == OPEN)

    def ended(self) -> Iterator[Trial]:
        """Trials that have ended."""
        return (trial for trial in self.trials if trial.status != OPEN)

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(line)

    def _apply(self, line: dict[str, Any]) -> None:
        number = line["trial"]
        if number == len(self.trials):
            self.trials.append(Trial(number, line["parameters"]))
            return
        trial = self.trials[number]
        trial.parameters = line.get("parameters", trial.parameters)
        if "report" in line:
            trial.reports.append(line["report"])
            trial.values.append(line["parameters"])
        trial.status = line.get("status", trial.status)
        trial.reason = line.get("reason", trial.reason)
        trial.recorded = line.get("recorded", trial.recorded and "status" not in line)
