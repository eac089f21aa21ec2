"""Frame triplets that a depth network can learn from.

A triplet is three frames of one sequence, equally far apart, that show motion. One pass over all
frames before training finds them: every process has the same list and every epoch the same length.
"""

import math
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
from cpcdr.frames.reader import FrameReader
from cpcdr.runtime.errors import FrameError, InputError

_PARALLAX, _WIDEST = 0.015, 5
"""Flow between neighbours of a triplet to aim at, as a fraction of the image width, and the most
frames that they may lie apart."""
_RUN, _SHORTEST_RUN = 8, 4
"""Most and fewest neighbouring triplets to check on."""

Triplet = tuple[FrameRef, FrameRef, FrameRef]
"""Previous, current and next frame."""


@dataclass(frozen=True)
class TripletScan:
    """Result of one pass over all frames.

    Attributes:
        triplets: usable ones, in the order of sequences and frames.
        static: number of triplets skipped for lack of motion.
        short: sequences too short for a triplet.
        rejected: (frame_id, reason) of unreadable frames.
        spacing: frames between neighbours of a triplet.
    """

    triplets: tuple[Triplet, ...]
    static: int
    short: tuple[str, ...]
    rejected: tuple[tuple[str, str], ...]
    spacing: tuple[int, ...]

    def summary(self) -> str:
        """One sentence for the log."""
        return (
            f"{len(self.triplets)} triplets of frames {' and '.join(map(str, self.spacing))} "
            f"apart; skipped {self.static} without motion, "
            f"{len(self.short)} sequences too short, "
            f"{len(self.rejected)} unreadable frames."
        )


class FrameMotion(NamedTuple):
    """Motion of one frame.

    Attributes:
        flow: mean length of the optical flow from the frame before, as a fraction of the image
            width; NaN for the first frame and next to unreadable ones.
        reason: why the frame cannot be read, or ``""``.
    """

    frame_id: str
    flow: float
    reason: str


def refuse_single_frames(source: FrameSource, spacing: Sequence[int]) -> None:
    """Check that any triplet exists, before frames are read.

    Raises:
        InputError: no sequence has three frames one of the spacings apart.
    """
    short = []
    spacing = tuple(spacing) or (1,)
    for name, refs in sequences(source):
        if _triplet_positions(refs, spacing):
            return
        short.append(name)
    raise InputError(_no_triplets(source, TripletScan((), 0, tuple(short), (), spacing)))


def find_triplets(
    source: FrameSource,
    motions: Iterable[FrameMotion],
    min_motion: float,
    spacing: Sequence[int] = (),
) -> TripletScan:
    """Every triplet of frames a spacing apart with motion, never across two sequences.

    Args:
        motions: of all its frames, in any order.
        min_motion: least flow between two neighbouring frames from a triplet's first to its last,
            as a fraction of the image width.
        spacing: frames between neighbours of a triplet; none: chosen by `motion_spacing`.

    Raises:
        InputError: no triplet is left.
    """
    by_frame: dict[str, FrameMotion] = {}
    for motion in motions:  # frames where two runs meet come twice, once without flow
        if motion.frame_id not in by_frame or not math.isnan(motion.flow):
            by_frame[motion.frame_id] = motion
    chosen = tuple(spacing)
    if not chosen:
        chosen = motion_spacing([m.flow for m in by_frame.values() if m.flow >= min_motion])
        if not any(_triplet_positions(refs, chosen) for _, refs in sequences(source)):
            chosen = (1,)  # too short for more
    triplets: list[Triplet] = []
    static = 0
    short: list[str] = []
    rejected: list[tuple[str, str]] = []
    for name, refs in sequences(source):
        reasons = [(ref.frame_id, by_frame[ref.frame_id].reason) for ref in refs]
        rejected += [(frame_id, reason) for frame_id, reason in reasons if reason]
        rows = _triplet_positions(refs, chosen)
        if not rows:
            short.append(name)
        for first, middle, last in rows:
            row = refs[first], refs[middle], refs[last]
            if any(by_frame[ref.frame_id].reason for ref in row):
                continue
            flows = [by_frame[ref.frame_id].flow for ref in refs[first + 1 : last + 1]]
            moves = any(flow >= min_motion for flow in flows)
            static += not moves
            triplets += [row] * moves
    scan = TripletScan(tuple(triplets), static, tuple(short), tuple(rejected), chosen)
    if not triplets:
        raise InputError(_no_triplets(source, scan))
    return scan


def motion_spacing(flows: Sequence[float]) -> tuple[int, ...]:
    """Spacings that give triplets enough parallax, and half of that, by the flow between frames.

    >>> motion_spacing([0.02]), motion_spacing([0.004, 0.005, 0.004]), motion_spacing([])
    ((1,), (2, 4), (1,))
    """
    typical = float(np.median(flows)) if len(flows) else _PARALLAX
    wide = int(np.clip(round(_PARALLAX / max(typical, 1e-6)), 1, _WIDEST))
    return (wide,) if wide == 1 else (max(1, wide // 2), wide)


def held_out(triplets: Sequence[Triplet]) -> tuple[list[Triplet], list[Triplet]]:
    """Triplets to train on, and some to check on that share no frame with them.

    The latter are about a tenth, in one run or two of up to 16; none of fewer than 40. Short runs
    would cost more of the others, since triplets overlap.
    """
    runs = 2 if len(triplets) >= 20 * _RUN else 1
    length = min(_RUN, len(triplets) // (10 * runs))
    if length < _SHORTEST_RUN:
        return list(triplets), []
    starts = np.linspace(0, len(triplets), runs + 2, dtype=int)[1:-1]
    held = [triplets[i] for start in starts for i in range(start, start + length)]
    frames = {ref for triplet in held for ref in triplet}
    return [t for t in triplets if not frames & {*t}], held


def measure_here(source: FrameSource, reader: FrameReader, threads: int) -> Iterator[FrameMotion]:
    """The motion of all frames, measured by threads of this process, which fills the cache."""
    with ThreadPoolExecutor(threads) as pool:
        for measured in pool.map(partial(measure_motion, reader), runs_of_frames(source)):
            yield from measured


def runs_of_frames(source: FrameSource, most: int = 64) -> list[list[FrameRef]]:
    """Sequences split into runs of about ``most`` frames; a run starts with the last frame of the
    previous one.

    One long recording then keeps all processes as busy as many short ones.
    """
    return [
        refs[max(0, start - 1) : start + most]
        for _, refs in sequences(source)
        for start in range(0, len(refs), most)
    ]


def measure_motion(reader: FrameReader, refs: list[FrameRef]) -> list[FrameMotion]:
    """The motion of consecutive frames of one sequence; the first one's flow is NaN."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    motions: list[FrameMotion] = []
    previous: NDArray[np.uint8] | None = None
    for ref in refs:
        try:
            current = _half_size_grey(reader.read(ref)[0])
        except FrameError as error:
            motions.append(FrameMotion(ref.frame_id, math.nan, str(error)))
            previous = None
            continue
        length = math.nan
        if previous is not None:
            field = flow.calc(previous, current, None)  # type: ignore[call-overload]
            length = float(np.linalg.norm(field, axis=2).mean()) / current.shape[1]
        motions.append(FrameMotion(ref.frame_id, length, ""))
        previous = current
    return motions


def sequences(source: FrameSource) -> Iterator[tuple[str, list[FrameRef]]]:
    """Each sequence's name and its frames in order."""
    refs = sorted(source.refs(), key=lambda ref: (ref.sequence, ref.frame_index))
    for name, members in groupby(refs, key=lambda ref: ref.sequence):
        yield name, list(members)


def _triplet_positions(refs: list[FrameRef], spacing: Sequence[int]) -> list[tuple[int, int, int]]:
    """Positions in ``refs`` of three frames a spacing apart, ordered by the middle one."""
    positions = {ref.frame_index: position for position, ref in enumerate(refs)}
    rows = []
    for (position, ref), apart in product(enumerate(refs), spacing):
        before = positions.get(ref.frame_index - apart)
        after = positions.get(ref.frame_index + apart)
        if before is not None and after is not None:
            rows.append((before, position, after))
    return rows


def _half_size_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return half.astype(np.uint8, copy=False)


def _no_triplets(source: FrameSource, scan: TripletScan) -> str:
    if scan.static:
        return (
            f"{source.spec}: all {scan.static} triplets of frames show no motion: depth is "
            "learned from a moving camera; give other video or a lower --depth.min-motion."
        )
    if scan.rejected:
        frame_id, reason = scan.rejected[0]
        return (
            f"{source.spec}: no three consecutive frames are readable; {len(scan.rejected)} frames "
            f"cannot be read, first error: {frame_id}: {reason}"
        )
    if min(scan.spacing) > 1:
        return (
            f"{source.spec}: no sequence has three frames {min(scan.spacing)} apart: give longer "
            "recordings, a lower --depth.spacing, or every frame of them (--options.stride 1, "
            "--options.limit 0)."
        )
    return (
        f"{source.spec}: no sequence has three consecutive frames: depth is learned from video, "
        "give whole recordings at their full frame rate (--options.stride 1, --options.limit 0)."
    )
