"""One process at a time: two real ones, a killed one, and machines that are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from cpcdr.runtime import hold as module
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import EXPIRY_SECONDS, Lease, hold

HOLDER = """
import os, sys, time
from pathlib import Path
from cpcdr.runtime.hold import hold
with hold(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


@pytest.fixture
def other(out: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, str(out), getattr(request, "param", "")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free(out: Path) -> bool:
    try:
        with hold(out):
            return True
    except InputError:
        return False


def test_a_name_that_leaves_no_room_for_others_is_refused(tmp_path: Path) -> None:
    for name in ("x" * 250, "ü" * 120):
        with pytest.raises(InputError, match="the name is too long"), hold(tmp_path / name):
            pass
    with hold(tmp_path / ("x" * 230)):
        pass


def test_the_second_says_who_holds_it(out: Path, other: subprocess.Popen[str]) -> None:
    words = rf"one: process {other.pid} on \S+ is writing it since \d{{4}}-.*give another --out"
    with pytest.raises(InputError, match=words), hold(out):
        pass
    with hold(out.with_name("two")):
        pass


@pytest.mark.parametrize("other", ["", "fork"], indirect=True)
def test_a_killed_holder_blocks_nobody(out: Path, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (out.parent / ".one.lock").exists(), "it could not clean up"
    assert free(out)


def test_nothing_is_left_and_the_folder_is_not_made(out: Path) -> None:
    with hold(out):
        assert not free(out), "not even the same process may write it twice"
    assert list(out.parent.iterdir()) == [] and free(out)


def lease_of(out: Path, age: float, **changes: object) -> None:
    """A lease of another machine, last touched so many seconds ago."""
    values = {"host": "node7", "boot": "another", "pid": 1, "started": 0.0, "token": "x"}
    lease = Lease(**(values | {"since": "2026-01-01 10:00:00"} | changes))  # type: ignore[arg-type]
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / ".one.lock"
    path.write_text(json.dumps(asdict(lease)))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_lease_of_another_machine_counts_until_it_expires(out: Path) -> None:
    lease_of(out, age=0.5 * EXPIRY_SECONDS)
    with pytest.raises(InputError, match="process 1 on node7 is writing it since 2026-01-01 10"):
        hold(out).__enter__()
    lease_of(out, age=EXPIRY_SECONDS + 5)
    assert free(out)


def test_without_kernel_locks_the_lease_decides(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system that has none."""
    monkeypatch.setattr(module, "_flock", lambda file: False)
    here = {"boot": module._boot(), "pid": os.getpid()}
    started = module.psutil.Process().create_time()
    lease_of(out, age=0, started=started, **here)
    assert not free(out), "its process lives"
    lease_of(out, age=0, started=started - 100, **here)
    assert free(out), "another process has its number now"
    lease_of(out, age=0, boot=module._boot(), pid=2**22 - 3, started=started)
    assert free(out), "it is dead"


def test_a_lease_is_kept_fresh(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.05)
    with hold(out):
        path = out.parent / ".one.lock"
        os.utime(path, (1, 1))
        time.sleep(0.5)
        assert path.stat().st_mtime > 1e9


def test_a_torn_lease_blocks_nobody(out: Path) -> None:
    out.parent.mkdir(parents=True)
    (out.parent / ".one.lock").write_text('{"host": "no')
    assert free(out)


@pytest.mark.slow
def test_the_second_command_exits_with_2(
    out: Path, other: subprocess.Popen[str], tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    frames = "synthetic:streets=1,frames=1,height=32,width=64"
    command = [sys.executable, str(root / "experiments" / "prepare.py"), "--engine", "local"]
    done = subprocess.run(
        [*command, "--frames", frames, "--out", str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and f"process {other.pid} on " in done.stderr
    assert not out.exists() and not (tmp_path / "mlruns").exists()
