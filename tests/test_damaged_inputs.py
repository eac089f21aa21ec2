"""A short form of `fuzz.py`, and that it notices what it looks for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fuzz
import pytest
from fuzz_readers import READERS, Reader

from cpcdr.runtime.errors import InputError


@pytest.mark.slow
def test_every_reader_reads_or_refuses_in_a_sentence() -> None:
    command = [sys.executable, fuzz.__file__, "--count", "88", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert result["cases"] == 88 and result["failures"] == 0 and result["peak_mib"] < 2048
    assert result["refused"] > 20 and result["read"] > 0, "damage arrives, but not in all cases"


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda folder: None, "read"),
        (lambda folder: _raise(InputError("x.yaml: is damaged; write it again.")), "refused"),
        (lambda folder: _raise(InputError("two\nlines")), "no sentence"),
        (lambda folder: _raise(KeyError("op")), "traceback"),
        (lambda folder: _raise(MemoryError()), "traceback"),
    ],
)
def test_outcomes_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, outcome: str
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.yaml").write_text("rate: 3\n")
    monkeypatch.setitem(READERS, "config", Reader(lambda folder: None, read))
    told = fuzz.one_case("config", 0, 0, corpus, tmp_path / "case")
    assert told["outcome"] == outcome and told["file"] == "a.yaml"
    assert (corpus / "a.yaml").read_text() == "rate: 3\n"


ENDLESS = """
import sys; sys.path.insert(0, {tests!r})
import fuzz
from pathlib import Path
from fuzz_readers import READERS, Reader
fuzz.SECONDS = 1
seen = []
def read(folder):
    {action}
fuzz.READERS["config"] = Reader(lambda folder: None, lambda f: read(f) if seen else seen.append(1))
fuzz.child("config", range(1), 0, Path({corpus!r}))
"""


@pytest.mark.parametrize(
    ("action", "code"),
    [("while True: pass", -14), ("import re; re.match('(a*)*b', 'a' * 60)", -14)],
)
def test_a_reader_without_end_is_killed(tmp_path: Path, action: str, code: int) -> None:
    (tmp_path / "a.yaml").write_text("rate: 3\n")
    tests = str(Path(__file__).parent)
    program = ENDLESS.format(tests=tests, action=action, corpus=str(tmp_path))
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == code, done.stderr.decode()
    assert time.perf_counter() - start < 60


def test_memory_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("rate: 3\n")
    tests = str(Path(__file__).parent)
    action = "bytearray(3 * 2**30)"
    program = ENDLESS.format(tests=tests, action=action, corpus=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert "MemoryError" in done.stdout and '"traceback"' in done.stdout, done.stderr
