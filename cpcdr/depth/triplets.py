"""Which frames a depth network can learn from, and reading them again and again.

A triplet is three frames of one sequence, equally far apart, that show motion. One pass over all
frames finds them, before training: so every process knows the same list and every epoch has the
same length.
"""

from __future__ import annotations

import math
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import FrameRef, FrameSource
from cpcdr.frames.resize import fit
from cpcdr.runtime.errors import FrameError, InputError

Triplet = tuple[FrameRef, FrameRef, FrameRef]
"""Previous, current and next frame."""


@dataclass(frozen=True)
class TripletScan:
    """What one pass over all frames found.

    Attributes:
        triplets: usable ones, in the order of sequences and frames.
        static: number of triplets skipped because nothing moves in them.
        short: sequences too short for a triplet.
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
            f"{len(self.short)} sequences too short, "
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


class FrameMotion(NamedTuple):
    """What was seen of one frame.

    Attributes:
        frame_id: whose.
        flow: mean length of the optical flow from the frame before, as a share of the image width;
            NaN where there is none before it or one of them cannot be read.
        reason: why the frame cannot be read, or ``""``.
    """

    frame_id: str
    flow: float
    reason: str


def refuse_single_frames(source: FrameSource, spacing: Sequence[int]) -> None:
    """Before any frame is read: is there a triplet at all?

    Raises:
        InputError: no sequence has three frames one of the spacings apart.
    """
    short = []
    for name, refs in sequences(source):
        if _rows(refs, spacing):
            return
        short.append(name)
    raise InputError(_nothing_left(source, TripletScan((), 0, tuple(short), ()), spacing))


def find_triplets(
    source: FrameSource,
    motions: Iterable[FrameMotion],
    min_motion: float,
    spacing: Sequence[int] = (1,),
) -> TripletScan:
    """Every triplet of frames a spacing apart with motion, never across two sequences.

    Args:
        source: where the frames are.
        motions: of all its frames, in any order.
        min_motion: least flow between two neighbouring frames from a triplet's first to its last,
            as a share of the image width.
        spacing: frames from one of the three to the next; each of some numbers.

    Raises:
        InputError: no triplet is left.
    """
    seen: dict[str, FrameMotion] = {}
    for motion in motions:  # a frame where two pieces meet comes twice, once without its flow
        if motion.frame_id not in seen or not math.isnan(motion.flow):
            seen[motion.frame_id] = motion
    triplets: list[Triplet] = []
    static = 0
    short: list[str] = []
    rejected: list[tuple[str, str]] = []
    for name, refs in sequences(source):
        broken = [(ref.frame_id, seen[ref.frame_id].reason) for ref in refs]
        rejected += [(frame_id, reason) for frame_id, reason in broken if reason]
        rows = _rows(refs, spacing)
        if not rows:
            short.append(name)
        for first, middle, last in rows:
            row = refs[first], refs[middle], refs[last]
            if any(seen[ref.frame_id].reason for ref in row):
                continue
            flows = [seen[ref.frame_id].flow for ref in refs[first + 1 : last + 1]]
            moves = any(flow >= min_motion for flow in flows)
            static += not moves
            triplets += [row] * moves
    scan = TripletScan(tuple(triplets), static, tuple(short), tuple(rejected))
    if not triplets:
        raise InputError(_nothing_left(source, scan, spacing))
    return scan


def measure_here(source: FrameSource, reader: FrameReader, threads: int) -> Iterator[FrameMotion]:
    """The motion of all frames, with threads of this process; what ``reader`` keeps it keeps."""
    with ThreadPoolExecutor(threads) as pool:
        for measured in pool.map(partial(measure_motion, reader), runs_of_frames(source)):
            yield from measured


def runs_of_frames(source: FrameSource, most: int = 64) -> list[list[FrameRef]]:
    """Sequences in pieces of about ``most`` frames; a piece starts with the last of the one before.

    One long recording is thus as good as many short ones at keeping all processes busy.
    """
    return [
        refs[max(0, start - 1) : start + most]
        for _, refs in sequences(source)
        for start in range(0, len(refs), most)
    ]


def measure_motion(reader: FrameReader, refs: list[FrameRef]) -> list[FrameMotion]:
    """The motion of frames of one sequence; of the first, which has none before it here, NaN."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    found: list[FrameMotion] = []
    before: NDArray[np.uint8] | None = None
    for ref in refs:
        try:
            now = _half_size_grey(reader.read(ref)[0])
        except FrameError as error:
            found.append(FrameMotion(ref.frame_id, math.nan, str(error)))
            before = None
            continue
        moved = math.nan
        if before is not None:
            field = flow.calc(before, now, None)  # type: ignore[call-overload]
            moved = float(np.linalg.norm(field, axis=2).mean()) / now.shape[1]
        found.append(FrameMotion(ref.frame_id, moved, ""))
        before = now
    return found


def sequences(source: FrameSource) -> Iterator[tuple[str, list[FrameRef]]]:
    """Each sequence's name and its frames in order."""
    refs = sorted(source.refs(), key=lambda ref: (ref.sequence, ref.frame_index))
    for name, members in groupby(refs, key=lambda ref: ref.sequence):
        yield name, list(members)


def _rows(refs: list[FrameRef], spacing: Sequence[int]) -> list[tuple[int, int, int]]:
    """Places in ``refs`` of three frames whose indices lie a spacing apart, middle by middle."""
    places = {ref.frame_index: place for place, ref in enumerate(refs)}
    rows = []
    for (place, ref), apart in product(enumerate(refs), spacing):
        before = places.get(ref.frame_index - apart)
        after = places.get(ref.frame_index + apart)
        if before is not None and after is not None:
            rows.append((before, place, after))
    return rows


def _half_size_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return half.astype(np.uint8, copy=False)


def _nothing_left(source: FrameSource, scan: TripletScan, spacing: Sequence[int]) -> str:
    if scan.static:
        return (
            f"{source.spec}: all {scan.static} triplets of frames are without motion: depth is "
            "learned from a moving camera, give other video or a lower --depth.min-motion."
        )
    if scan.rejected:
        frame_id, reason = scan.rejected[0]
        return (
            f"{source.spec}: no three readable frames in a row; {len(scan.rejected)} frames "
            f"cannot be read, the first is {frame_id}: {reason}"
        )
    if min(spacing) > 1:
        return (
            f"{source.spec}: no sequence has three frames {min(spacing)} apart: give longer "
            "recordings, a lower --depth.spacing, or every frame of them (--options.stride 1, "
            "--options.limit 0)."
        )
    return (
        f"{source.spec}: no sequence has three consecutive frames: depth is learned from video, "
        "give whole recordings at their full frame rate (--options.stride 1, --options.limit 0)."
    )
