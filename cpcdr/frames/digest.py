"""Short digests of source files: part of the identity of everything that is made from them."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from cpcdr.frames.frame import FrameSource
from cpcdr.frames.joined import camera_files_of
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.runtime.progress import phase

_BLOCK = 4096
_BLOCKS = 5
"""Blocks that are read of a file: its head, its tail, and between them at equal distances."""
_READERS = 16
_COMPRESSED = frozenset((".png", ".jpg", ".jpeg", ".webp", *VIDEO_SUFFIXES))
"""Where a change in one place moves or changes bytes in many; other files are read as a whole."""


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
    lines = (
        f"{ref.frame_id} {prints.get(ref.path)} {prints.get(ref.label_path)} "
        f"{prints.get(ref.right_path)}"
        for ref in refs
    )
    return _digest(chain(lines, (f"{path} {prints[str(path)]}" for path in cameras)))


def files_digest(paths: Iterable[Path]) -> str:
    """Digest of any files; their order does not count."""
    prints = _fingerprints({str(path) for path in paths})
    return _digest(f"{path} {prints[path]}" for path in sorted(prints))


def _fingerprints(paths: set[str]) -> dict[str, str]:
    ordered = sorted(paths)
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(ordered, pool.map(_fingerprint, ordered), strict=True))


def _fingerprint(path: str) -> str:
    """Size and hash of the content, of pictures and videos in blocks.

    Times of change are left out, so that a copy of the data counts as the same data.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if Path(path).suffix.lower() not in _COMPRESSED or size <= _BLOCK * _BLOCKS:
                return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
            hashed = hashlib.sha256()
            for i in range(_BLOCKS):
                file.seek(i * (size - _BLOCK) // (_BLOCKS - 1))
                hashed.update(file.read(_BLOCK))
    except OSError:
        return "unreadable"
    return f"{size} {hashed.hexdigest()[:16]}"


def _digest(lines: Iterable[str]) -> str:
    hashed, between = hashlib.sha256(), b""
    for line in lines:
        hashed.update(between + line.encode())
        between = b"\n"
    return hashed.hexdigest()[:16]
