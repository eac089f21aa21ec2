"""Progress bars: drawn in place on a terminal, a line now and then in a log file."""

import math
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress(tqdm):
    """tqdm's bar; where standard error is no terminal, one line every ten seconds and at the end.

    Takes tqdm's arguments. A job's log on a cluster would otherwise be mostly bars.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.terminal = sys.stderr.isatty()
        self.last_line = -math.inf
        if not self.terminal:
            named |= {"file": _Lines(sys.stderr), "mininterval": SECONDS_BETWEEN_LINES}
        super().__init__(*arguments, dynamic_ncols=self.terminal, **named)

    def refresh(self, *arguments: Any, **named: Any) -> bool | None:
        """Draw the bar; in a log only if the last line is old enough."""
        now = time.monotonic()
        if self.terminal or now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            return super().refresh(*arguments, **named)
        return None


class _Lines:
    """A text file that gets each bar as a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        bar = text.strip("\r\n ")
        if bar:
            self.file.write(bar + "\n")

    def flush(self) -> None:
        self.file.flush()
