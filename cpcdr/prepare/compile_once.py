"""One process of a machine compiles the numba kernels; the others take them from numba's cache."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def first_alone(run: str) -> Iterator[None]:
    """Wait while another process of this machine and run is in its first such block.

    Kernels are compiled when they are first called, which takes about a minute of one core, and
    numba caches them on disk only then: workers that begin together would all compile them.

    Args:
        run: a name of the run; blocks after the first of a run do not wait for each other.
    """
    with _lock_file("first").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed by the system when its holder dies
        file.seek(0)
        first = file.read() != run
        if not first:
            fcntl.flock(file, fcntl.LOCK_UN)
        yield
        if first:
            file.truncate(0)
            file.write(run)


@contextmanager
def if_nobody_else(what: str) -> Iterator[bool]:
    """Whether no other process of this machine is in such a block now; never waits."""
    with _lock_file(what).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock_file(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"cpcdr-{name}-{os.getuid()}.lock"
