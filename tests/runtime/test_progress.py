"""What bars and phases leave in a log and on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import sys
import termios
import threading
import time
from collections.abc import Iterator

import numba
import numpy as np
import pytest

from cpcdr.runtime import progress
from cpcdr.runtime.progress import Progress, command_line, phase


class Screen:
    """A terminal, and all that is sent to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_TICKS", 0.05)
        self.monkeypatch, self.pieces = monkeypatch, list[bytes]()
        self.reader, writer = pty.openpty()
        termios.tcsetwinsize(writer, (24, 100))
        self.terminal = os.fdopen(writer, "w")
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux's way of saying that the other end is closed
            while piece := os.read(self.reader, 10000):
                self.pieces.append(piece)

    def show(self) -> None:
        """Make it standard output and error; not in a fixture, after which pytest sets them."""
        for name in ("stdout", "stderr"):
            self.monkeypatch.setattr(sys, name, self.terminal)

    def text(self) -> str:
        """What it was sent, when it is closed."""
        self.terminal.close()
        self.thread.join()
        return b"".join(self.pieces).decode()


@pytest.fixture(autouse=True)
def _nothing_open() -> None:
    """Not what an earlier test of this process abandoned."""
    for line in reversed(progress._open):
        line.close()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    screen = Screen(monkeypatch)
    yield screen
    screen.text()
    os.close(screen.reader)


def ticking() -> int:
    return sum("repeat" in repr(getattr(t, "_target", "")) for t in threading.enumerate())


def test_a_log_gets_whole_lines_and_few_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=1000, desc="prepare", unit="frame") as bar:
        for i in range(1000):
            bar.set_postfix_str(f"{i} rejected", refresh=True)
            bar.update()
        assert bar.n == 1000
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("|")[0] for line in lines] == ["prepare:   0%", "prepare: 100%"]
    assert "1000/1000" in lines[-1] and "999 rejected" in lines[-1] and "\r" not in "".join(lines)


def test_a_log_hears_of_what_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_TICKS", 0.02)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.3)
    with phase("starting Ray"):
        time.sleep(1.0)
    with phase("short"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3 and all(re.match(r"starting Ray \[00:0\d\]$", x) for x in lines)


def test_a_terminal_gets_every_refresh(screen: Screen) -> None:
    screen.show()
    with Progress(total=4, desc="pretrain") as bar:
        for i in range(4):
            bar.set_postfix_str(f"loss {i}")
            bar.update()
    shown = screen.text()
    assert all(f"loss {i}" in shown for i in range(4)) and shown.count("\r") >= 4


def test_a_bar_ticks_while_nothing_arrives(screen: Screen) -> None:
    screen.show()
    with Progress(total=4, desc="prepare", unit="frame", warmup="workers start"):
        time.sleep(1.3)
    drawn = [text for text in screen.text().split("\r") if text.startswith("prepare")]
    assert len(drawn) > 8 and {"00:00", "00:01"} <= {
        text.partition("[")[2].partition("<")[0] for text in drawn
    }
    assert all("0/4 [" in text and "<workers start]" in text for text in drawn)


def test_the_estimate_leaves_the_first_items_out(screen: Screen) -> None:
    screen.show()
    with Progress(total=100, desc="prepare", unit="frame") as bar:
        bar.start_t -= 50  # what the first item took
        bar.update()
        assert bar.format_dict["bar_format"].endswith("{warmup}{postfix}]")
        bar.first = bar.last = (1, time.monotonic() - 18)
        bar.update(9)
        assert bar.format_dict["rate"] == pytest.approx(0.5, rel=0.1)
        assert "<02:5" in str(bar) or "<03:0" in str(bar), str(bar)  # 90 frames, 2 s each
        bar.last = (10, time.monotonic() - 90)
        bar.first = (1, time.monotonic() - 108)
        assert bar.format_dict["rate"] == pytest.approx(18 / 108, rel=0.1), "it is late"
        bar.update(90)
        assert "100/100" in str(bar) and "<00:00" in str(bar)


def test_the_innermost_is_shown_and_then_the_one_around_it(screen: Screen) -> None:
    screen.show()
    with phase("cpcdr prepare"):
        time.sleep(0.2)
        with phase("starting Ray"):
            time.sleep(0.3)
        with Progress(total=2, desc="frames") as bar:
            bar.update(2)
        time.sleep(0.2)
    shown = [text.strip() for text in re.split(r"[\r\n]+", screen.text()) if text.strip()]
    names = [re.split(r"[:\[]", text)[0].strip() for text in shown]
    order = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    assert order == ["cpcdr prepare", "starting Ray", "frames", "cpcdr prepare"]


def test_printed_lines_are_never_mixed_with_the_shown_one(screen: Screen) -> None:
    screen.show()
    with command_line("cpcdr prepare"):
        for i in range(5):
            time.sleep(0.12)
            print("line", i)
            print("warning", i, file=sys.stderr)
        print("no end", end="")
    print("RESULT {}")
    lines = [text.split("\r")[-1] for text in screen.text().replace("\r\n", "\n").split("\n")]
    expected = [f"{name} {i}" for i in range(5) for name in ("line", "warning")]
    assert lines[:10] == expected and lines[10].endswith("no endRESULT {}")


def test_an_error_leaves_nothing_open(screen: Screen) -> None:
    screen.show()
    before = ticking()
    with pytest.raises(ValueError, match="broken"), command_line("cpcdr prepare"):
        bar = Progress(total=3, desc="frames")
        bar.update()
        raise ValueError("broken")
    assert progress._open == () and ticking() == before


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_TICKS", 0.05)
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    monkeypatch.setattr(sys, "stderr", os.fdopen(writer, "w"))
    with phase("cpcdr prepare"), Progress(range(3), desc="frames") as bar:
        os.close(reader)
        assert [time.sleep(0.1) or i for i in bar] == [0, 1, 2]
    assert progress._open == ()


def test_compiling_is_said(screen: Screen) -> None:
    screen.show()

    @numba.njit
    def kernel(values):  # type: ignore[no-untyped-def]
        return np.sort(values)[0] + np.linalg.norm(values)

    with phase("grouping"):
        kernel(np.ones(3))
    assert "grouping: compiling kernels [00:0" in screen.text()


def test_iterating_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Progress(range(5), desc="regions")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines()[-1].startswith("regions: 100%")
    assert progress._open == ()
