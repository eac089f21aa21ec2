"""Labelled frames to train on: which can be used, how they are read, crops of them."""

from __future__ import annotations

import math
import os
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames import IGNORE, Frame, FrameRef, FrameSource, fit, get_protocol
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress

_MOST_THREADS = 16


class LabelledReader:
    """Frames with labels at a working size, the most recently used ones kept in memory.

    Several threads may call it at once: each has its own copy of the source.

    Args:
        source: where the frames are.
        size: (H, W) to fit frames to.
        cache_bytes: bound on the memory of the kept frames.
    """

    def __init__(self, source: FrameSource, size: tuple[int, int], cache_bytes: int) -> None:
        self._source, self._size = SourcePerThread(source), size
        self._room = cache_bytes // (4 * size[0] * size[1])
        self._kept: OrderedDict[str, tuple[NDArray, NDArray]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, ref: FrameRef) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image uint8 [H, W, 3] and labels uint8 [H, W]."""
        with self._lock:
            if ref.frame_id in self._kept:
                self._kept.move_to_end(ref.frame_id)
                return self._kept[ref.frame_id]
        frame = fit(_read(self._source(), ref), self._size)
        assert frame.labels is not None
        entry = (frame.image, frame.labels)
        with self._lock:
            self._kept[ref.frame_id] = entry
            while len(self._kept) > self._room:
                self._kept.popitem(last=False)
        return entry


class SourcePerThread:
    """Calling it returns the calling thread's own copy of a source, which need not be safe."""

    def __init__(self, source: FrameSource) -> None:
        self._pickled, self._of_thread = pickle.dumps(source), threading.local()

    def __call__(self) -> FrameSource:
        if not hasattr(self._of_thread, "source"):
            self._of_thread.source = pickle.loads(self._pickled)  # bytes that we made ourselves
        return self._of_thread.source


def _read(source: FrameSource, ref: FrameRef) -> Frame:
    """A frame that has labels."""
    frame = source.read(ref)
    if frame.labels is None:
        raise FrameError(f"{ref.frame_id}: has no label map; leave it out.")
    return frame


def chosen_refs(source: FrameSource, fraction: float) -> list[FrameRef]:
    """A fixed part of a source's labelled frames: a smaller one is part of every larger one.

    Raises:
        InputError: no frame has a label map.
    """
    if not source.protocol:
        raise InputError(f"{source.spec}: has no labels; give labelled frames.")
    refs = [ref for ref in source.refs() if ref.label_path or not ref.path]
    if not refs:
        raise InputError(f"{source.spec}: no frame has a label map.")
    order = np.random.default_rng(0).permutation(len(refs))  # one list for all seeds and runs
    return [refs[i] for i in sorted(order[: max(1, round(fraction * len(refs)))])]


@dataclass(frozen=True, eq=False)
class Survey:
    """The result of reading every frame once.

    Attributes:
        refs: the frames that can be used, in their order.
        rejected: why the others cannot, by frame id.
        pixels: int64 [K], labelled pixels of each class.
    """

    refs: list[FrameRef]
    rejected: dict[str, str]
    pixels: NDArray[np.int64]


def survey(source: FrameSource, refs: list[FrameRef]) -> Survey:
    """Read all frames before the training, so that no broken one ends it later.

    Batches are drawn from what is left: the same on all ranks, and after a resume.

    Raises:
        InputError: no frame can be read, or none has a pixel of a class.
    """
    classes = len(get_protocol(source.protocol).classes)
    own, kept, rejected = SourcePerThread(source), [], {}
    pixels = np.zeros(classes, np.int64)

    def look(ref: FrameRef) -> NDArray[np.int64] | str:
        try:
            labels = _read(own(), ref).labels
        except FrameError as error:
            return str(error)
        assert labels is not None
        return np.bincount(labels[labels != IGNORE], minlength=classes)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        looks = Progress(
            pool.map(look, refs), total=len(refs), desc="labels", unit="frame", leave=False
        )
        for ref, found in zip(refs, looks, strict=True):
            if isinstance(found, str):
                rejected[ref.frame_id] = found
            else:
                kept.append(ref)
                pixels += found
    if not pixels.any():
        raise InputError(_nothing(source, len(refs), next(iter(rejected.values()), "")))
    return Survey(kept, rejected, pixels)


def require_labels(source: FrameSource) -> None:
    """Check that a labelled pixel exists to score on, reading no more frames than necessary.

    Raises:
        InputError: no frame has a label map that can be read and has a pixel of a class.
    """
    refs, first = chosen_refs(source, 1.0), ""
    for ref in refs:
        try:
            labels = source.read(ref).labels
        except FrameError as error:
            first = first or str(error)
            continue
        if labels is not None and (labels != IGNORE).any():
            return
    raise InputError(_nothing(source, len(refs), first))


def _nothing(source: FrameSource, count: int, first: str) -> str:
    return (
        f"{source.spec}: none of {count} labelled frames has a pixel of a class of "
        f"{source.protocol} that can be read; "
        + (f"first error: {first}" if first else "all of it is void: give other label maps.")
    )


def random_crop(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    size: tuple[int, int],
    scales: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A random magnification, crop and flip; what lies outside the frame is black and ignored.

    Args:
        image: [h, w, 3].
        labels: [h, w].
        size: (H, W) of the crop.
        scales: range of the magnification, drawn uniformly in its logarithm.
    """
    scale = math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, (width, height), interpolation=method).astype(np.uint8)
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(
        np.uint8
    )
    missing = [max(0, want - have) for want, have in zip(size, (height, width), strict=True)]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)))
        labels = np.pad(labels, ((0, missing[0]), (0, missing[1])), constant_values=IGNORE)
    top, left = (
        int(rng.integers(0, have - want + 1)) for have, want in zip(labels.shape, size, strict=True)
    )
    image = image[top : top + size[0], left : left + size[1]]
    labels = labels[top : top + size[0], left : left + size[1]]
    return (image[:, ::-1], labels[:, ::-1]) if rng.random() < 0.5 else (image, labels)
