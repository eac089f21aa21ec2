"""Time stamps of a video: clocks that start again, joined recordings, lost time."""

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import BREAK

LATE = 1.5
"""Frame intervals after which the next frame is late: time was lost in between."""
_MPEG_WRAP = 1 << 33


def unwrapped(stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stamps that rise on where MPEG's clock of 33 bits starts again at 0, every 26 hours.

    >>> unwrapped(np.array([(1 << 33) - 3000, 0, 3000])).tolist()
    [8589931592, 8589934592, 8589937592]
    """
    half = _MPEG_WRAP // 2
    steps = (np.diff(stamps) + half) % _MPEG_WRAP - half
    wraps = np.abs(np.diff(stamps)) > half
    return stamps[0] + np.concatenate([[0], np.cumsum(steps)]) if wraps.any() else stamps


def runs(
    stamps: NDArray[np.int64], keys: NDArray[np.bool_], reach: float
) -> list[NDArray[np.int64]]:
    """Packets in pieces between which the clock was set back, as where files were joined.

    Pictures before a key frame are shown before it, so that a key frame with an earlier time
    begins a new recording, and so does any picture that comes later than reordering explains.

    Args:
        reach: time by which reordering may set a picture back.

    >>> [r.tolist() for r in runs(np.array([0, 3, 1, 1, 2]), np.array([1, 0, 0, 1, 0], bool), 9)]
    [[0, 1, 2], [3, 4]]
    """
    starts, latest = [0], stamps[0]
    for number, (stamp, key) in enumerate(zip(stamps, keys, strict=True)):
        if stamp < latest and (key or stamp < latest - reach):
            starts.append(number)
            latest = stamp
        latest = max(latest, stamp)
    return np.split(np.arange(len(stamps)), starts[1:])


def usual_step(times: list[NDArray[np.int64]]) -> float:
    """The median time from a picture to the next, 0 if there are no times."""
    steps = np.concatenate([np.diff(run) for run in times]) if times else np.empty(0)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 0.0


def frame_indices(count: int, times: list[NDArray[np.int64]], interval: float) -> NDArray[np.int64]:
    """Indices of pictures as displayed: consecutive, but for gaps where time was lost.

    >>> frame_indices(5, [np.array([0, 10, 40]), np.array([0, 10])], 10.0).tolist()
    [0, 1, 4, 1004, 1005]
    """
    steps = np.ones(count, np.int64)
    first = 0
    for run in times:
        if interval:
            passed = np.diff(run) / interval
            late = np.clip(np.rint(passed), 2, BREAK)
            steps[first + 1 : first + len(run)] = np.where(passed > LATE, late, 1)
        steps[first] = BREAK
        first += len(run)
    steps[0] = 0
    return np.cumsum(steps)
