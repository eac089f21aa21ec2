"""Labelled frames to train on: which can be used, how they are read, crops of them."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames import IGNORE, FrameRef, FrameSource, get_protocol
from cpcdr.frames.reader import SourcePerThread, image_and_labels
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress

_MOST_THREADS = 16


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

    def count(ref: FrameRef) -> NDArray[np.int64] | str:
        try:
            _, labels = image_and_labels(own().read(ref))
        except FrameError as error:
            return str(error)
        return np.bincount(labels[labels != IGNORE], minlength=classes)

    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(threads) as pool,
        Progress(
            pool.map(count, refs), total=len(refs), desc="labels", unit="frame", leave=False
        ) as counts,
    ):
        for ref, counted in zip(refs, counts, strict=True):
            if isinstance(counted, str):
                rejected[ref.frame_id] = counted
            else:
                kept.append(ref)
                pixels += counted
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
