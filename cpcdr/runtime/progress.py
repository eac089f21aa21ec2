"""What a command is doing, on one line of standard error that never stands still.

`phase` is for work of unknown length, `Progress` for work that is counted. On a terminal the line
is redrawn every second by a thread; of phases and bars within each other the innermost is shown. In
a log a bar is a line at its start, every ten seconds and at its end, and a phase a line every ten
seconds.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO

from tqdm import tqdm

from cpcdr.runtime.repeat import repeated
from cpcdr.runtime.stopping import compiling

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_TICKS = 1.0
_MEASURED_S = 1.0
"""An estimate needs so much time after the first items, which workers may end together."""
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_COMPILES = "compiling kernels"
_WARMUP_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{warmup}{postfix}]"

tqdm.set_lock(threading.RLock())  # tqdm's own may stay locked when Ctrl-C interrupts it
_open: tuple["_Line", ...] = ()
"""Open lines, of which the last one is shown."""


class _Line(tqdm):
    """A bar of tqdm's on the only line there is, redrawn by a thread until it is closed."""

    monitor_interval = 0  # of a thread of tqdm's that would do the same every ten seconds

    def __init__(self, *arguments: Any, drawn_at_once: bool, **named: Any) -> None:
        global _open
        self.terminal, self.opened, self.drawn = sys.stderr.isatty(), False, False
        self.last_line = -math.inf if drawn_at_once else time.monotonic()
        self.own_file, self.ticks = _own_file(sys.stderr), ExitStack()
        _open = (*_open, self)
        file = self.own_file if self.terminal else _Lines(self.own_file)
        sized = self.terminal and os.get_terminal_size(self.own_file.fileno()).columns > 0
        named |= {"file": file, "position": 0, "dynamic_ncols": sized}
        if not self.terminal:
            named["mininterval"] = SECONDS_BETWEEN_LINES
        super().__init__(*arguments, **named)
        self.opened = True
        if drawn_at_once:
            self.refresh()
        self.ticks.enter_context(repeated(self._tick, SECONDS_BETWEEN_TICKS))

    def _tick(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            self.refresh()

    def refresh(self, *arguments: Any, **named: Any) -> bool | None:
        """Draw the line, if it is the one that is shown; in a log only if the last one is old."""
        shown, now = _open, time.monotonic()
        if not self.opened or not shown or shown[-1] is not self:
            return None
        if self.terminal or now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            with self.get_lock():
                if self.terminal and not self.drawn:
                    self.clear(nolock=True)  # of the line that was shown before
                    self.drawn = True
                return super().refresh(nolock=True)
        return None

    def close(self) -> None:
        """End the line, and those that an error left open within it."""
        global _open
        if not any(line is self for line in _open):
            return
        while _open[-1] is not self:
            _open[-1].close()
        self.ticks.close()
        with suppress(OSError, ValueError):  # the terminal is gone
            super().close()
        _open = _open[:-1]
        with suppress(OSError):
            if self.own_file is not sys.stderr:
                self.own_file.close()


class Progress(_Line):
    """tqdm's bar, with an estimate of the time left that does not count the first items.

    Takes tqdm's arguments. Open it with ``with``, also to iterate over it.

    Args:
        warmup: what is waited for until there is an estimate; shown in its place.
    """

    def __init__(self, *arguments: Any, warmup: str = "warming up", **named: Any) -> None:
        self.warmup = warmup
        self.first = self.last = (0.0, math.inf)  # items, and when they were done
        self.together = 1.0  # items that were counted last
        super().__init__(*arguments, drawn_at_once=True, **named)

    def __iter__(self) -> Iterator[Any]:
        for item in self.iterable:
            yield item
            self.update()
        self.close()

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` items more."""
        if n:
            self.last, self.together = (self.n + n, time.monotonic()), n
            self.first = min(self.first, self.last, key=lambda item: item[1])
        return super().update(n)

    def reach(self, n: int) -> None:
        """Set the number of items that are done."""
        self.update(n - self.n)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm formats the bar from."""
        rate = self._rate()
        own = {"rate": rate, "bar_format": _WARMUP_BAR if rate == 0 else _BAR}
        return {**super().format_dict, **own, "warmup": _COMPILES if compiling() else self.warmup}

    def _rate(self) -> float | None:
        """Items a second after the first ones; 0 while unknown, None for the mean at the end."""
        if self.total is not None and self.n >= self.total:
            return None
        (before, start), (done, end), now = self.first, self.last, time.monotonic()
        if done <= before or now - start < _MEASURED_S:
            return 0.0
        # When the next items come later than expected, the mean grows with the wait.
        expected = done - before + self.together
        return 1 / max((end - start) / (done - before), (now - start) / expected)


class _Phase(_Line):
    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "now": f": {_COMPILES}" if compiling() else ""}


@contextmanager
def phase(text: str) -> Iterator[None]:
    """Say what is being done, with the time that it takes, from the first second on."""
    line = _Phase(desc=text, drawn_at_once=False, bar_format="{desc}{now} [{elapsed}]", leave=False)
    try:
        yield
    finally:
        line.close()


@contextmanager
def command_line(text: str) -> Iterator[None]:
    """`phase` for a whole command, whose printed lines go above the line on a terminal."""
    before: tuple[Any, Any] = (sys.stdout, sys.stderr)
    above = sys.stderr.isatty()
    files = [_Above(file) if above and file.isatty() else file for file in before]
    try:
        with phase(text):
            sys.stdout, sys.stderr = files
            yield
    finally:
        sys.stdout, sys.stderr = before
        for file in files:
            file.flush()


class _Above:
    """A terminal's text file that clears the shown line before it writes lines of text."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.rest = file, ""

    def write(self, text: str) -> int:
        whole, newline, self.rest = (self.rest + text).rpartition("\n")
        if newline:
            self._write(whole + newline)
        return len(text)

    def flush(self) -> None:
        if self.rest:
            self._write(self.rest)
        self.rest = ""
        self.file.flush()

    def _write(self, text: str) -> None:
        with tqdm.get_lock():
            if _open:
                _open[-1].clear(nolock=True)
            self.file.write(text)
            self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


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


def _own_file(file: TextIO) -> TextIO:
    """The same terminal or log, also while descriptor 2 leads elsewhere, as when Ray starts."""
    try:
        return os.fdopen(os.dup(file.fileno()), "w", encoding=file.encoding, errors="replace")
    except (OSError, ValueError):  # no file of the system's
        return file
