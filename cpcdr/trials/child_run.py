"""What the tracking store holds of a trial, and who knows it: the ledger of a search, a study."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

Config = dict[str, Any]
"""The parameters that Tune gives a trial."""


@dataclass(frozen=True)
class ChildRun:
    """A trial as a child of the run of its search or study.

    Attributes:
        rows: metrics and their step, for everything reported so far, in order.
        tags: set when the run is opened and again when it is closed.
        failed: whether the trial ended with an error.
    """

    name: str
    params: dict[str, Any]
    rows: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    failed: bool = False


class TrialRecords(Protocol):
    """The trials of a command as `cpcdr.trials.record.RecordTrials` needs them, each by a key."""

    @property
    def total(self) -> int:
        """Number of trials, including those that ended in an earlier start."""

    def key(self, config: Config) -> str:
        """The key of a trial, unique in the command and the same in every start."""

    def child_run(self, key: str) -> ChildRun:
        """What the tracking store should hold of the trial by now."""

    def report(self, key: str, config: Config, result: dict[str, Any]) -> str | None:
        """Note a report; the text beside the progress bar, or None if it is already known."""

    def end(self, key: str, error: str) -> None:
        """Note that a trial has ended; ``error`` is empty unless it failed."""

    def ended(self) -> int:
        """Number of trials that have ended, in this start or an earlier one."""

    def unrecorded(self) -> Iterable[str]:
        """Keys of ended trials that the tracking store may not have completely."""

    def recorded(self, key: str) -> None:
        """The tracking store has everything of an ended trial."""
