"""Which frames a depth network can learn from, and reading them again and again.

A triplet is three frames in a row of one sequence that show motion. One pass over all frames finds
them, before training: so every process knows the same list and every epoch has the same length.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.errors import FrameError, InputError
from cpcdr.frames.frame import FrameRef, FrameSource
from cpcdr.frames.resize import fit

Triplet = tuple[FrameRef, FrameRef, FrameRef]
"""Previous, current and next frame."""


@dataclass(frozen=True)
class TripletScan:
    """What one pass over all frames found.

    Attributes:
        triplets: usable ones, in the order of sequences and frames.
        static: number of triplets skipped because nothing moves in them.
        short: sequences without three frames in a row.
        rejected: (frame_id, reason) of the frames that cannot be read.
    """

    triplets: tuple[Triplet, ...]
    static: int
    short: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]

    def summary(self) -> str:
        """One sentence for the log."""
        return (
            f"{len(self.triplets)} triplets; skipped {self.static} without motion, "
            f"{len(self.short)} sequences without three frames in a row, "
            f"{len(self.rejected)} unreadable frames."
        )


class FrameReader:
    """Reads frames at the training size and keeps the most recently used ones in memory.

    Safe to call from many threads: each has its own copy of the source, which need not be.

    Args:
        source: where the frames are.
        size: (H, W) to fit frames to.
        cache_bytes: bound on the memory of the kept images.
    """

    def __init__(self, source: FrameSource, size: tuple[int, int], cache_bytes: int) -> None:
        self._pickled = pickle.dumps(source)
        self._size = size
        self._capacity = cache_bytes // (size[0] * size[1] * 3)
        self._kept: OrderedDict[str, tuple[NDArray, NDArray]] = OrderedDict()
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def read(self, ref: FrameRef) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Image uint8 [H, W, 3] and intrinsics [4] of a frame at the training size.

        Raises:
            FrameError: the frame cannot be read.
        """
        with self._lock:
            if ref.frame_id in self._kept:
                self._kept.move_to_end(ref.frame_id)
                return self._kept[ref.frame_id]
        frame = fit(self._source().read(ref), self._size)
        entry = (frame.image, frame.intrinsics)
        with self._lock:
            self._kept[ref.frame_id] = entry
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return entry

    def _source(self) -> FrameSource:
        if not hasattr(self._of_thread, "source"):
            self._of_thread.source = pickle.loads(self._pickled)  # bytes that we made ourselves
        return self._of_thread.source


def find_triplets(
    source: FrameSource, reader: FrameReader, min_motion: float, threads: int
) -> TripletScan:
    """Every triplet of frames in a row with motion, never across two sequences.

    Args:
        source: where the frames are.
        reader: reads them (and keeps them for the first epoch, as far as its memory goes).
        min_motion: least mean absolute grey difference (0..1) to one of the neighbours.
        threads: that read frames.

    Raises:
        InputError: no triplet is left.
    """
    triplets: list[Triplet] = []
    static = 0
    short: list[str] = []
    rejected: list[tuple[str, str]] = []
    with ThreadPoolExecutor(threads) as pool:
        for name, refs in _sequences(source):
            rows = [row for row in zip(refs, refs[1:], refs[2:], strict=False) if _in_row(row)]
            if not rows:
                short.append(name)
                continue
            motion = _measure_motion(pool, reader, refs, rejected)
            readable = [row for row in rows if {row[1].frame_id, row[2].frame_id} <= motion.keys()]
            moving = [
                row
                for row in readable
                if max(motion[row[1].frame_id], motion[row[2].frame_id]) >= min_motion
            ]
            static += len(readable) - len(moving)
            triplets += moving
    scan = TripletScan(tuple(triplets), static, tuple(short), tuple(rejected))
    if not triplets:
        raise InputError(_nothing_left(source, scan))
    return scan


def _sequences(source: FrameSource) -> Iterator[tuple[str, list[FrameRef]]]:
    refs = sorted(source.refs(), key=lambda ref: (ref.sequence, ref.frame_index))
    for name, members in groupby(refs, key=lambda ref: ref.sequence):
        yield name, list(members)


def _in_row(refs: Triplet) -> bool:
    return refs[2].frame_index - refs[0].frame_index == 2 == len({r.frame_index for r in refs}) - 1


def _measure_motion(
    pool: ThreadPoolExecutor,
    reader: FrameReader,
    refs: list[FrameRef],
    rejected: list[tuple[str, str]],
) -> dict[str, float]:
    """Difference of each frame to the one before it, by frame_id; unreadable ones are rejected."""
    motion: dict[str, float] = {}
    before: NDArray[np.float32] | None = None
    for ref, found in zip(refs, pool.map(partial(_thumbnail, reader), refs), strict=True):
        if isinstance(found, FrameError):
            rejected.append((ref.frame_id, str(found)))
            before = None
            continue
        if before is not None:
            motion[ref.frame_id] = float(np.abs(found - before).mean())
        before = found
    return motion


def _thumbnail(reader: FrameReader, ref: FrameRef) -> NDArray[np.float32] | FrameError:
    """The frame in grey, 0..1, at 1/8 size: small enough that noise averages out."""
    try:
        image, _ = reader.read(ref)
    except FrameError as error:
        return error
    grey = image.astype(np.float32).mean(axis=2) / 255
    height, width = grey.shape
    return cv2.resize(grey, (width // 8, height // 8), interpolation=cv2.INTER_AREA)


def _nothing_left(source: FrameSource, scan: TripletScan) -> str:
    if scan.static:
        return (
            f"{source.spec}: all {scan.static} triplets of frames are without motion: depth is "
            "learned from a moving camera, give other video or a lower --min-motion."
        )
    if scan.rejected:
        frame_id, reason = scan.rejected[0]
        return (
            f"{source.spec}: no three readable frames in a row; {len(scan.rejected)} frames "
            f"cannot be read, the first is {frame_id}: {reason}"
        )
    return (
        f"{source.spec}: no sequence has three consecutive frames: depth is learned from video, "
        "give whole recordings at their full frame rate (--stride 1, --limit 0)."
    )
