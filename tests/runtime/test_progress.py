"""What a progress bar leaves in a log and on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import termios

import pytest

from cpcdr.runtime.progress import Progress


def test_a_log_gets_whole_lines_and_few_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=1000, desc="prepare", unit="frame") as bar:
        for i in range(1000):
            bar.set_postfix_str(f"{i} rejected", refresh=True)
            bar.update()
        assert bar.n == 1000
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("|")[0] for line in lines] == ["prepare:   0%", "prepare: 100%"]
    assert "1000/1000" in lines[-1] and "999 rejected" in lines[-1] and "\r" not in "".join(lines)


def test_a_terminal_gets_every_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 100))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(total=4, desc="pretrain") as bar:
            for i in range(4):
                bar.set_postfix_str(f"loss {i}")
                bar.update()
    shown = _everything(reader)
    os.close(reader)
    assert all(f"loss {i}" in shown for i in range(4)) and shown.count("\r") >= 4


def _everything(reader: int) -> str:
    """What was written to a terminal whose other end is closed; one read may return a part."""
    pieces = []
    with contextlib.suppress(OSError):  # Linux's way of saying that the other end is closed
        while piece := os.read(reader, 10000):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_iterating_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Progress(range(5), desc="regions")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines()[-1].startswith("regions: 100%")
