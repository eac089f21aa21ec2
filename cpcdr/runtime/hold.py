"""One process at a time writes a folder: a kernel lock, and a lease for where there is none.

The lock file lies beside the folder. Its holder has it flocked; the kernel releases the lock when
the process ends, for whatever reason. Not every network file system has such locks between
machines, so the file also names its holder and is touched every few seconds: the lease of a machine
that is gone expires.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import psutil

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.repeat import repeated
from cpcdr.runtime.run_folder import check_folder

REFRESH_SECONDS = 10.0
EXPIRY_SECONDS = 60.0
_LONGEST_NAME = 230
"""Bytes; names of other files are made of it, and file systems take 255."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_held: set[int] = set()  # file descriptors


@dataclass(frozen=True)
class Lease:
    """Who holds a lock.

    Attributes:
        boot: the id of its running kernel, which two machines of one name do not share.
        started: when that process started, seconds since 1970.
        since: when it took the lock, as local time.
        token: of this very lease.
    """

    host: str
    boot: str
    pid: int
    started: float
    since: str
    token: str


@contextmanager
def hold(folder: Path, is_file: bool = False) -> Iterator[None]:
    """Be the only process that writes ``folder``, on this and on other machines.

    Args:
        folder: the command's ``--out``; it need not exist.

    Raises:
        InputError: another process holds it (the sentence names it), or it cannot be written.
    """
    if len(os.fsencode(folder.name)) > _LONGEST_NAME:
        raise InputError(f"--out {folder}: the name is too long; choose a shorter one.")
    check_folder(folder.absolute().parent if is_file else folder)
    path = _lock_file(folder.absolute())
    file, lease = _take(path, folder)
    _held.add(file)
    try:
        with repeated(partial(_refresh, file), REFRESH_SECONDS):
            yield
    finally:
        _held.discard(file)
        if _read(file) == lease and _is_at(file, path):
            path.unlink()
        os.close(file)


def holder(folder: Path) -> Lease | None:
    """The lease of the process that writes ``folder`` now; None if none does."""
    for path in (folder.absolute().with_name(f".{folder.name}.lock"), folder / ".lock"):
        with suppress(OSError):
            file = os.open(path, os.O_RDONLY)
            try:
                lease = _read(file)
                if _lives(lease, path, locked=False):
                    return lease
            finally:
                os.close(file)
    return None


def _lock_file(folder: Path) -> Path:
    beside = folder.with_name(f".{folder.name}.lock")
    beside.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and not os.access(beside.parent, os.W_OK):  # a mounted volume, as an example
        return folder / ".lock"
    return beside


def _take(path: Path, folder: Path) -> tuple[int, Lease]:
    """The open lock file, with a lease of this process in it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            locked = _flock(file)
            if not _is_at(file, path):  # its holder removed it after it was opened here
                os.close(file)
                continue
            if _lives(_read(file), path, locked):
                raise BlockingIOError
            return file, _sign(file, locked)
        except BlockingIOError:
            holder = _read(file)
            os.close(file)
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            since = f" since {holder.since}" if holder else ""
            raise InputError(
                f"{folder}: {who} is writing it{since}; wait for it, or give another --out."
            ) from None


def _flock(file: int) -> bool:
    """Whether the file is locked now; not where the file system has no locks.

    Raises:
        BlockingIOError: another process has locked it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _lives(lease: Lease | None, path: Path, locked: bool) -> bool:
    """Whether the holder of a lease may still write, if this process has or has not the lock."""
    if lease is None:
        return False
    if lease.boot != _boot():
        return _age(path) < EXPIRY_SECONDS
    if locked:  # the kernel has released its lock: it is dead
        return False
    with suppress(psutil.Error):
        return abs(psutil.Process(lease.pid).create_time() - lease.started) < 1
    return False


def _age(path: Path) -> float:
    """Seconds since the file was touched, by the clock of the file system's own machine."""
    probe = path.with_name(f"{path.name}.{uuid4().hex}")
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    return now - path.stat().st_mtime


def _sign(file: int, locked: bool) -> Lease:
    process = psutil.Process()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    lease = Lease(
        *(socket.gethostname(), _boot(), process.pid, process.create_time(), since, uuid4().hex)
    )
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(asdict(lease)).encode(), 0)
    os.fsync(file)
    if not locked:
        time.sleep(0.5)  # whoever found the same dead lease has written by now: the last one wins
        if _read(file) != lease:
            raise BlockingIOError
    return lease


def _read(file: int) -> Lease | None:
    try:
        return Lease(**json.loads(os.pread(file, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _refresh(file: int) -> None:
    with suppress(OSError):
        os.utime(file)


def _is_at(file: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _boot() -> str:
    return _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()


def _let_go() -> None:
    """A forked child would keep the lock of a parent that is gone."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
