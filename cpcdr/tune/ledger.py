"""The ledger of a search: every trial, report and end, in one append-only file.

Ray Tune's own snapshot is seconds old when a driver is killed, names trials at random and forgets
what early stopping compared them with. Here a trial is a number, its line is on disk before it
starts and its report before any decision depends on it. The same command therefore resumes exactly
where it was killed: proposals, early stopping and MLflow are all functions of this file.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import as_number, write_atomic
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import damaged_line, read_json_lines
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
        value = as_number(self.reports[-1].get(metric))
        if value is None:
            raise InputError(f"trial {self.number} reports no {metric}; give another --out.")
        return float(value)


class Ledger:
    """The trials of one search: read from the file, changed by appending lines to it.

    Raises:
        InputError: a line of the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        lines = read_json_lines(path)
        for number, line in enumerate(lines, 1):
            if not _valid(line, len(self.trials)):
                raise damaged_line(path, number)
            self._apply(line)
        # A killed writer may have left half a line, and the next one must not be appended to it.
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))

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


def _valid(line: dict[str, Any], trials: int) -> bool:
    """Whether a line of the file is one that this class writes when it has so many trials."""
    number, parameters, report = (line.get(name) for name in ("trial", "parameters", "report"))
    known = type(number) is int and 0 <= number <= trials
    given = parameters is None or (
        isinstance(parameters, dict) and all(as_number(v) is not None for v in parameters.values())
    )
    if not known or not given or line.get("status", OPEN) not in (OPEN, DONE, STOPPED, FAILED):
        return False
    if parameters is None and (number == trials or report is not None):
        return False
    step = {} if report is None else report
    reported = report is None or (isinstance(step, dict) and type(step.get("step")) is int)
    return reported and isinstance(line.get("reason", ""), str)
