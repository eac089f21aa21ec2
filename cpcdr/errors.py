"""Errors that a user can act on: one sentence that names the file and the remedy."""

from __future__ import annotations


class InputError(Exception):
    """Bad input for a whole command. Scripts print the sentence and exit with code 2."""


class FrameError(InputError):
    """One frame cannot be used. ``prepare`` records it in ``rejected.parquet`` and goes on.

    Args:
        reason: one sentence naming the file and the remedy.
        stage: the stage that found it: ``frames``, ``depth`` or ``regions``.
    """

    def __init__(self, reason: str, stage: str = "frames") -> None:
        super().__init__(reason)
        self.stage = stage

    def __reduce__(self) -> tuple[type[FrameError], tuple[str, str]]:
        return (FrameError, (str(self), self.stage))
