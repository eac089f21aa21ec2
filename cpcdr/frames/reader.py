"""Frames at a working size, read by several threads, the most recently used ones in memory."""

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable

from numpy.typing import NDArray

from cpcdr.frames.frame import Frame, FrameRef, FrameSource
from cpcdr.frames.resize import fit
from cpcdr.runtime.errors import FrameError

Pair = tuple[NDArray, NDArray]


def image_and_intrinsics(frame: Frame) -> Pair:
    """Image uint8 [H, W, 3] and intrinsics float32 [4]."""
    return frame.image, frame.intrinsics


def image_and_labels(frame: Frame) -> Pair:
    """Image uint8 [H, W, 3] and labels uint8 [H, W].

    Raises:
        FrameError: it has no labels.
    """
    if frame.labels is None:
        raise FrameError(f"{frame.ref.frame_id}: has no label map; leave it out.")
    return frame.image, frame.labels


class SourcePerThread:
    """Calling it returns the calling thread's own copy of a source, which need not be safe."""

    def __init__(self, source: FrameSource) -> None:
        self._pickled, self._of_thread = pickle.dumps(source), threading.local()

    def __call__(self) -> FrameSource:
        if not hasattr(self._of_thread, "source"):
            self._of_thread.source = pickle.loads(self._pickled)  # pickled above
        return self._of_thread.source


class FrameReader:
    """Reads frames of a source; several threads may call it at once.

    Args:
        size: (H, W) to fit frames to.
        room: number of frames that are kept in memory.
        part: what is read, and cached, of a frame.
    """

    def __init__(
        self,
        source: FrameSource,
        size: tuple[int, int],
        room: int,
        part: Callable[[Frame], Pair] = image_and_intrinsics,
    ) -> None:
        self._source, self._size, self._part = SourcePerThread(source), size, part
        self._room = room
        self._cache: OrderedDict[str, Pair] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, ref: FrameRef) -> Pair:
        """The part of a frame, at the working size.

        Raises:
            FrameError: the frame cannot be read.
        """
        with self._lock:
            if ref.frame_id in self._cache:
                self._cache.move_to_end(ref.frame_id)
                return self._cache[ref.frame_id]
        entry = self._part(fit(self._source().read(ref), self._size))
        with self._lock:
            self._cache[ref.frame_id] = entry
            while len(self._cache) > self._room:
                self._cache.popitem(last=False)
        return entry
