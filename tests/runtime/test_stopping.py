"""Real processes that are stopped: exit codes, sentences, runs closed, nothing dumped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).resolve().parents[2]
STREET = "synthetic:streets=4,frames=8,height=64,width=128,seed=7"


def environment() -> dict[str, str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    keep.pop("MLFLOW_TRACKING_URI", None)
    return {**keep, "PYTHONPATH": str(ROOT)}


def stopped(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner may itself be a background job, whose children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "number"),
    [("local", signal.SIGINT), ("ray", signal.SIGINT), ("ray", signal.SIGTERM)],
)
def test_a_stopped_training_says_so_and_closes_its_run(
    tmp_path: Path, engine: str, number: int
) -> None:
    script = str(ROOT / "experiments" / "train_depth.py")
    sizes = "--depth.height 64 --depth.width 128 --depth.channels 4 --train.steps 100000"
    options = f"--frames {STREET} --out out {sizes} --engine {engine}"
    process = start(script, *options.split(), folder=tmp_path)
    deadline = time.monotonic() + 300
    while not (tmp_path / "out" / "history.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    code, errors = stopped(process, number)
    assert code == 130, errors[-2000:]
    assert "stopped; run the same command again" in errors.splitlines()[-1]
    for dumped in ("Traceback", "SIGABRT", "Fatal Python error", "*** ", "logging.cc"):
        assert dumped not in errors, errors[-3000:]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cpcdr")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"


COMPILES = """
import sys, time
from cpcdr.runtime import stopping
from numba import njit
stopping.stop_on_signals()
lines = (f"    x = x * {i} + {i}.5 if x < {i} else x\\n" for i in range(150))
source = "def f(x):\\n" + "".join(lines)
namespace = {}
exec(source + "    return x", namespace)
print("compiling", file=sys.stderr, flush=True)
try:
    njit(namespace["f"])(1.0)
    time.sleep(60)
    print("swallowed", file=sys.stderr)
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
"""


def test_a_stop_during_compilation_is_not_swallowed(tmp_path: Path) -> None:
    """Numba's callbacks from C print an exception and go on: the stop waits for their end."""
    for delay in (0.1, 0.4):
        process = start("-c", COMPILES, folder=tmp_path)
        assert process.stderr is not None
        assert process.stderr.readline().strip() == "compiling"
        time.sleep(delay)
        code, errors = stopped(process, signal.SIGTERM)
        assert code == 0 and errors.strip() == "stopped", errors


IN_A_DESTRUCTOR = """
import sys, time
from cpcdr.runtime import stopping
stopping.stop_on_signals()
class Slow:
    def __del__(self):
        print("in a destructor", file=sys.stderr, flush=True)
        time.sleep(2)
try:
    Slow()
    time.sleep(60)
    print("swallowed", file=sys.stderr)
except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
"""


def test_a_stop_in_a_destructor_comes_again(tmp_path: Path) -> None:
    process = start("-c", IN_A_DESTRUCTOR, folder=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().strip() == "in a destructor"
    time.sleep(0.2)
    code, errors = stopped(process, signal.SIGINT)
    assert code == 0 and errors.strip() == "stopped", errors


WITHIN_EXEC = """
import sys, time
from cpcdr.runtime import stopping
stopping.stop_on_signals()
print("within exec", file=sys.stderr, flush=True)
try:
    exec("time.sleep(60)")
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_stop_within_exec_keeps_the_exit_code(tmp_path: Path) -> None:
    """As of a dataclass that is imported: ``python -m`` would end by the signal all the same."""
    (tmp_path / "within.py").write_text(WITHIN_EXEC)
    process = start("-m", "within", folder=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().strip() == "within exec"
    time.sleep(0.2)
    assert stopped(process, signal.SIGINT) == (130, "")


PRINTS = """
import sys
from dataclasses import dataclass
from cpcdr.runtime.cli import main
@dataclass(frozen=True)
class Config:
    lines: int = 100_000
def work(config):
    for number in range(config.lines):
        print(number)
    return {}
main(Config, work, "")
"""


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 141 and errors == ""
