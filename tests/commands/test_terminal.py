"""What people see while real commands run: every second something, and bars that can be trusted."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpcdr.commands import config_of
from cpcdr.runtime.cli import parse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STREET = "synthetic:streets=4,frames=4,height=64,width=128,seed=7"
SILENT_S = 5.0
"""Longest time without a sign of life."""
BAR = re.compile(
    r"(?P<name>[\w -]+): +\d+%\|.*\| (?P<done>\d+)/(?P<total>\d+) "
    r"\[(?P<elapsed>[\d:]+)<(?P<left>\d+:[\d:]+|[a-z][a-z, ]+)"
)
PHASE = re.compile(r"(?P<name>[a-zA-Z][\w ':-]+) \[(?P<elapsed>[\d:]+)\]")
LOCAL = "--engine local"
TRAIN = "--train.steps 30 --train.log-every 10 --tracking none"
COMMANDS = {
    "prepare": f"--frames {STREET} --regions.superpixels 2000 --out data {LOCAL}",
    "train-depth": f"--frames {STREET} --depth.height 64 --depth.width 128 --preset scratch "
    f"--out depth {LOCAL} {TRAIN}",
    "pretrain": "--data data --frames-per-item 2 --model.width 8 --model.prototypes 32 "
    f"--model.head-channels 32 --out pretrained {LOCAL} {TRAIN}",
    "evaluate": f"--network pretrained --frames {STREET} --tracking none {LOCAL}",
    "segment": f"--network pretrained --frames {STREET} --clusters 8 --out video.mp4 {LOCAL}",
}
"""In an order in which each finds what it needs."""


@dataclass
class Shown:
    """What a command sent to its terminal.

    Attributes:
        times: seconds after its start at which something came, with the start and the end.
        text: all of it.
    """

    code: int = -1
    times: list[float] = field(default_factory=lambda: [0.0])
    text: str = ""

    @property
    def drawn(self) -> list[str]:
        """Every state of every line."""
        return [part.strip() for part in re.split(r"[\r\n]+", self.text) if part.strip()]

    @property
    def silences(self) -> list[float]:
        """Times of more than `SILENT_S` in which nothing came."""
        gaps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        return [gap for gap in gaps if gap > SILENT_S]

    @property
    def result(self) -> dict[str, object]:
        return dict(json.loads(self.text.rstrip().splitlines()[-1].removeprefix("RESULT ")))


def on_a_terminal(command: str, options: str, folder: Path, stop_at: str = "") -> Shown:
    """Run a command whose standard output and error are a terminal of 100 columns.

    Args:
        stop_at: press Ctrl-C as soon as this is shown.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, "-m", "cpcdr", command, *options.split()]
        os.execve(sys.executable, arguments, environment)
    termios.tcsetwinsize(terminal, (24, 100))
    shown, start, pieces = Shown(), time.monotonic(), list[bytes]()
    with contextlib.suppress(OSError):  # Linux's way of saying that the other end is closed
        while piece := os.read(terminal, 65536):
            pieces.append(piece)
            if stop_at and stop_at in b"".join(pieces[-20:]).decode(errors="ignore"):
                os.write(terminal, b"\x03")
                stop_at = ""
            shown.times.append(time.monotonic() - start)
    shown.code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shown.times.append(time.monotonic() - start)
    shown.text = b"".join(pieces).decode()
    os.close(terminal)
    return shown


def is_busy() -> bool:
    """Whether the machine has more to do than it can: who waits for a core shows nothing."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def check(shown: Shown, command: str) -> None:
    assert shown.code == 0, shown.text[-2000:]
    # Ray keeps the interpreter while it waits for processes that themselves wait for a core.
    allowed = 0.5 * shown.times[-1] if is_busy() else 0.0
    assert sum(shown.silences) <= allowed, (command, shown.silences)
    seen: set[str] = set()
    for text in shown.drawn:
        if "%|" in text:
            bar = BAR.match(text)
            assert bar, f"{command}: no total, elapsed time or estimate: {text}"
            assert int(bar["total"]) > 0 and int(bar["done"]) <= int(bar["total"])
            seen.add(bar["name"])
    assert seen, f"{command} draws no bar"
    assert any(PHASE.match(text) for text in shown.drawn), "it says what it does before the first"
    assert "seconds" in shown.result or "frames" in shown.result
    lines = shown.text.replace("\r\n", "\n").split("\nnext:\n")[1].splitlines()[:-1]
    assert lines, "it says what to run next"
    for name, *options in (shlex.split(line)[1:] for line in lines):
        parse(config_of(name.replace("-", "_")), "", options)


def test_nothing_is_silent_and_every_bar_has_an_estimate(tmp_path: Path) -> None:
    for command, options in COMMANDS.items():
        shown = on_a_terminal(command, options, tmp_path)
        check(shown, command)


def test_with_ray(tmp_path: Path) -> None:
    """It says that Ray starts, and the bar waits for the workers."""
    shown = on_a_terminal("prepare", f"--frames {STREET} --out data", tmp_path)
    check(shown, "prepare")
    assert "starting Ray [00:0" in shown.text
    assert "/16 [00:00<workers start, kernels compile" in shown.text


@pytest.mark.parametrize("stop_at", ["loading [00:0", "prepare:   0%", "prepare:  25%"])
def test_ctrl_c_ends_the_line_and_says_how_to_continue(tmp_path: Path, stop_at: str) -> None:
    street = "synthetic:streets=200,frames=4,height=64,width=128"
    options = f"--frames {street} --engine local --frames-per-part 4 --out data --tracking none"
    shown = on_a_terminal("prepare", options, tmp_path, stop_at)
    assert shown.code == 130, shown.text[-2000:]
    assert shown.drawn[-1] == "stopped; run the same command again to continue."


def test_an_error_is_a_line_of_its_own(tmp_path: Path) -> None:
    shown = on_a_terminal("segment", "--network nowhere --engine local", tmp_path)
    assert shown.code == 2 and shown.drawn[-1].startswith("error: nowhere")
