"""Damage what the readers read, at random, and see that each says one sentence or reads it.

Every reader gets valid files of its own, and in each case one of them is damaged: bits flipped,
parts cut out, repeated or replaced, numbers and words exchanged for extreme ones. A reader may
read the result, or raise `InputError` with one line. Anything else is a failure: another
exception, a crash, more than 20 s, or more than 2 GiB of memory, which is a child process's limit.

Examples:
  python tests/fuzz.py --count 2000
  python tests/fuzz.py --count 500 --only checkpoint parquet --seed 3
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_readers import READERS

SECONDS, MEMORY = 20, 2 * 2**30
WORDS = [
    *[b"nan", b".nan", b".inf", b"-1", b"0", b"1e-3", b"1e999", b"1000000000000", b"9" * 400],
    *[b"null", b"true", b"[]", b"{}", b'""', b"2020-01-01", b"&a [*a, *a]", b"*a", b"!!set {a}"],
    *[b"[" * 3000, b'{"a":' * 3000, b"../../x", b"/etc/x", b"\0", b"\xff\xfe", b"\xe2\x80\xa8"],
]


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes after one to three mutations, mostly one; not always different bytes."""
    for _ in range((1, 1, 2, 3)[int(random.integers(4))]):
        data = _MUTATIONS[int(random.integers(len(_MUTATIONS)))](data, random)
    return data


def _span(data: bytes, random: np.random.Generator) -> tuple[int, int]:
    # The beginning, where headers are, is hit as often as all the rest.
    end = min(len(data), 256) if random.random() < 0.5 else len(data)
    at = int(random.integers(end + 1))
    return at, min(len(data), at + int(2 ** (random.random() * 10)))


def _flip(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data or b" ")
    for _ in range(int(random.integers(1, 9))):
        at = min(_span(data, random)[0], len(changed) - 1)
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _cut_end(data: bytes, random: np.random.Generator) -> bytes:
    return data[: int(random.integers(len(data) + 1))]


def _cut_out(data: bytes, random: np.random.Generator) -> bytes:
    first, last = _span(data, random)
    return data[:first] + data[last:]


def _repeat(data: bytes, random: np.random.Generator) -> bytes:
    first, last = _span(data, random)
    return data[:last] + data[first:last] * int(random.integers(1, 4)) + data[last:]


def _noise(data: bytes, random: np.random.Generator) -> bytes:
    first, last = _span(data, random)
    return data[:first] + random.bytes(last - first) + data[last:]


def _extreme(data: bytes, random: np.random.Generator) -> bytes:
    at, value = _span(data, random)[0], (0, 2**31 - 1, 2**32 - 1, 2**63)[int(random.integers(4))]
    order: Any = ("little", "big")[int(random.integers(2))]
    width = 4 if value < 2**32 else 8
    return data[:at] + value.to_bytes(width, order) + data[at + width :]


def _word(data: bytes, random: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[\w.+-]+", data[:200_000]))
    if not found:
        return data
    place = found[int(random.integers(len(found)))]
    word = WORDS[int(random.integers(len(WORDS)))]
    return data[: place.start()] + word + data[place.end() :]


_MUTATIONS = [_flip, _cut_end, _cut_out, _repeat, _noise, _extreme, _word, _word, _word]


def one_case(name: str, case: int, seed: int, corpus: Path, folder: Path) -> dict[str, Any]:
    """What a reader makes of a case's damaged files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(corpus, folder)
    random = np.random.default_rng([seed, list(READERS).index(name), case])
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    target = files[int(random.integers(len(files)))]
    target.write_bytes(damaged(target.read_bytes(), random))
    told = {"case": case, "file": target.name}
    from cpcdr.runtime.errors import InputError

    try:
        READERS[name].read(folder)
    except InputError as error:
        text = str(error)
        one_line = bool(text) and "\n" not in text and len(text) < 2000
        return told | {"outcome": "refused" if one_line else "no sentence", "text": text[:300]}
    except Exception:
        return told | {"outcome": "traceback", "text": traceback.format_exc()[-1500:]}
    return told | {"outcome": "read"}


def child(name: str, cases: range, seed: int, corpus: Path) -> None:
    """Do the cases, a line of output each; the alarm kills even a loop in C."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        case_folder = Path(temporary) / "case"
        shutil.copytree(corpus, case_folder)
        READERS[name].read(case_folder)  # undamaged: imports are no part of a case's time
        print(json.dumps({"ready": True}), flush=True)
        for case in cases:
            signal.alarm(SECONDS)
            told = one_case(name, case, seed, corpus, case_folder)
            signal.alarm(0)
            print(json.dumps(told), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"peak_mib": peak}), flush=True)


def outcomes(name: str, count: int, seed: int, corpus: Path) -> Iterator[dict[str, Any]]:
    """All cases of a reader, in as many child processes as crashes make necessary."""
    case = 0
    while case < count:
        arguments = ["--child", name, "--first", str(case), "--count", str(count)]
        command = [sys.executable, __file__, *arguments, "--seed", str(seed), "--corpus", corpus]
        done = subprocess.run(command, capture_output=True, text=True)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
        if {"ready": True} not in told:
            raise RuntimeError(f"{name} cannot read its undamaged files: {done.stderr[-1500:]}")
        yield from (one for one in told if "ready" not in one)
        case += sum("case" in one for one in told)
        if done.returncode:
            hung = done.returncode == -signal.SIGALRM
            outcome = f"over {SECONDS} s" if hung else f"exit code {done.returncode}"
            yield {"case": case, "outcome": outcome, "text": done.stderr[-1500:]}
            case += 1


def fuzz_reader(name: str, count: int, seed: int, root: Path) -> tuple[Counter[str], int]:
    """Counts by outcome, and the memory in MiB at its peak; failures are printed."""
    corpus, counts, peak = root / name, Counter[str](), 0
    corpus.mkdir()
    READERS[name].make(corpus)
    for told in outcomes(name, count, seed, corpus):
        if "peak_mib" in told:
            peak = max(peak, told["peak_mib"])
            continue
        counts[told["outcome"]] += 1
        if told["outcome"] not in ("read", "refused"):
            print(f"{name}, case {told['case']}, {told.get('file', '?')}: {told['outcome']}")
            print(told["text"], flush=True)
    return counts, peak


def main() -> int:
    """Share the cases among the readers and print what they made of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--workers", type=int, default=2, help="readers at once")
    for hidden in ("--child", "--corpus"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, range(given.first, given.count), given.seed, Path(given.corpus))
        return 0
    each = -(-given.count // len(given.only))
    total, failures, peak = Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.workers) as pool:
        jobs = {
            name: pool.submit(fuzz_reader, name, each, given.seed, Path(folder))
            for name in given.only
        }
        for name, job in jobs.items():
            counts, mib = job.result()
            total, peak = total + counts, max(peak, mib)
            print(f"{name:12} {json.dumps(counts)}, {mib} MiB", flush=True)
    failures = total.total() - total["read"] - total["refused"]
    summary = {"cases": total.total(), **total, "failures": failures, "peak_mib": peak}
    print(f"RESULT {json.dumps(summary | {'seed': given.seed})}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
