"""Frames with their maps by several sources of depth, a few frames at a time on a GPU."""

from collections.abc import Iterator, Sequence

from cpcdr.depth.source import DepthSource, Disparity, estimate, frames_at_once
from cpcdr.frames import Frame, FrameRef, FrameSource, fit
from cpcdr.runtime.errors import FrameError


def frames_with_maps(
    source: FrameSource,
    depths: Sequence[DepthSource],
    refs: Sequence[FrameRef],
    size: tuple[int, int],
) -> Iterator[tuple[Frame, list[Disparity]] | FrameError]:
    """Each frame at ``size`` (height and width; 0 0: its own) with a map of each source, in order;
    or why it cannot be read, or has no map."""
    together = frames_at_once()
    for start in range(0, len(refs), together):
        frames = [_read(source, ref, size) for ref in refs[start : start + together]]
        good = [frame for frame in frames if isinstance(frame, Frame)]
        maps = zip(*(estimate(depth, good) for depth in depths), strict=True)
        for frame in frames:
            yield frame if isinstance(frame, FrameError) else _with_maps(frame, next(maps))


def _read(source: FrameSource, ref: FrameRef, size: tuple[int, int]) -> Frame | FrameError:
    try:
        return fit(source.read(ref), size)
    except FrameError as error:
        return error


def _with_maps(
    frame: Frame, maps: Sequence[Disparity | FrameError]
) -> tuple[Frame, list[Disparity]] | FrameError:
    good: list[Disparity] = []
    for result in maps:
        if isinstance(result, FrameError):
            return result
        good.append(result)
    return frame, good
