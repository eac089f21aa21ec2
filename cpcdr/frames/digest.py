"""Short digests of source files: part of the identity of everything that is made from them."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpcdr.frames.frame import FrameSource
from cpcdr.frames.joined import camera_files_of
from cpcdr.runtime.progress import phase

_EDGE = 4096
_READERS = 16


@phase("fingerprinting the files of the frames")
def frames_digest(source: FrameSource) -> str:
    """Digest of the files of all frames, with label maps, right images, calibration and poses.

    ``""`` for rendered frames, which have no files: their spec determines them.
    """
    refs = source.refs()
    files = {path for ref in refs for path in (ref.path, ref.label_path, ref.right_path) if path}
    if not files:
        return ""
    cameras = camera_files_of(source)
    prints = _fingerprints(files | {str(path) for path in cameras})
    lines = [
        f"{ref.frame_id} {prints.get(ref.path)} {prints.get(ref.label_path)} "
        f"{prints.get(ref.right_path)}"
        for ref in refs
    ]
    lines += [f"{path} {prints[str(path)]}" for path in cameras]
    return _digest(lines)


def files_digest(paths: Iterable[Path]) -> str:
    """Digest of any files; their order does not count."""
    prints = _fingerprints({str(path) for path in paths})
    return _digest([f"{path} {prints[path]}" for path in sorted(prints)])


def _fingerprints(paths: set[str]) -> dict[str, str]:
    ordered = sorted(paths)
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(ordered, pool.map(_fingerprint, ordered), strict=True))


def _fingerprint(path: str) -> str:
    """Size, time of the last change, and hash of head and tail: no file is read as a whole."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_EDGE)
            file.seek(max(0, status.st_size - _EDGE))
            edges = hashlib.sha256(head + file.read(_EDGE)).hexdigest()[:16]
    except OSError:
        return "unreadable"
    return f"{status.st_size} {status.st_mtime_ns} {edges}"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
