"""Errors that a user can act on: one sentence that names the file and the remedy."""

from __future__ import annotations

import errno
import re

_NO_ROOM = f"Errno (?:{errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})"


class InputError(Exception):
    """Bad input for a whole command. Scripts print the sentence and exit with code 2."""


class FrameError(InputError):
    """One frame cannot be used. ``prepare`` records it with the reason and continues.

    Args:
        stage: the stage that found it: ``frames``, ``depth`` or ``regions``.
    """

    def __init__(self, reason: str, stage: str = "frames") -> None:
        super().__init__(reason)
        self.stage = stage

    def __reduce__(self) -> tuple[type[FrameError], tuple[str, str]]:
        return (FrameError, (str(self), self.stage))


def no_room(error: BaseException) -> str:
    """A sentence for an error that reports a full disk or an exhausted quota; else ``""``.

    Ray and pyarrow wrap errors in others, so that the text is all there is to go by.
    """
    match = re.search(rf"\[{_NO_ROOM}\] ([^:\n']+)(?:: '([^'\n]+)')?", str(error))
    if match is None:
        return ""
    what, file = match.groups()
    where = f"{file}: " if file else ""
    return f"{where}{what.strip().lower()}; make room and run the same command again to resume."


def first_line(error: BaseException) -> str:
    """The first line of another library's error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
