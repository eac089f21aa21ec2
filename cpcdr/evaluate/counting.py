"""Confusion counts of frames, made by actors and summed over all frames."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpcdr.evaluate.clusters import sum_clusters
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.segmenters import Segmenter
from cpcdr.frames import Frame, FrameRef, FrameSource, fit
from cpcdr.runtime.device import default_device, images_at_once
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.map_frames import map_frames, warmup_of
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tables import counted

NETWORK = "network"
"""The segmenter whose counts are also kept per group of frames."""

FEWEST_DRIVES, STRETCHES = 8, 20
"""With fewer drives than these, stretches of consecutive frames are resampled."""
MOST_GROUPS = 400  # bounds the memory: more drives share a group


class SegmentFrames:
    """An actor that reads frames, segments them and counts confusions."""

    def __init__(
        self,
        source: FrameSource,
        size: tuple[int, int],
        segmenters: Mapping[str, Segmenter],
        ids: Mapping[str, int],
        classes: int,
    ) -> None:
        self.source, self.size, self.segmenters = source, size, segmenters
        self.ids, self.classes = ids, classes
        for segmenter in segmenters.values():
            segmenter.load()

    def __call__(self, table: pa.Table) -> pa.Table:
        refs = [FrameRef(**row) for row in table.to_pylist()]
        step = images_at_once(default_device(), self.size)
        parts = (refs[start : start + step] for start in range(0, len(refs), step))
        return pa.Table.from_pylist([row for part in parts for row in self.count(part)])

    def count(self, refs: Sequence[FrameRef]) -> list[dict[str, Any]]:
        """Confusions of frames as bytes, by name of the segmenter; empty without labels."""
        rows, frames = list[dict[str, Any]](), list[tuple[Frame, dict[str, Any]]]()
        for ref in refs:
            row: dict[str, Any] = {"frame_id": ref.frame_id, "reason": "", "usage": b""}
            rows.append(row | dict.fromkeys(self.segmenters, b""))
            try:
                frames.append((fit(self.source.read(ref), self.size), rows[-1]))
            except FrameError as error:
                rows[-1]["reason"] = str(error)
        if not frames:
            return rows
        images = np.stack([frame.image for frame, _ in frames])
        for name, segmenter in self.segmenters.items():
            ids = self.ids[name]
            for predicted, (frame, row) in zip(segmenter.segment(images), frames, strict=True):
                if name == NETWORK:
                    row["usage"] = np.bincount(predicted.reshape(-1), minlength=ids).tobytes()
                if frame.labels is not None:
                    row[name] = confusion(predicted, frame.labels, ids, self.classes).tobytes()
        return rows


def resampled_groups(refs: Sequence[FrameRef]) -> tuple[NDArray[np.int64], str]:
    """What the bootstrap resamples: the group of each frame, int64 [F], and its name.

    Groups are drives, which are independent; with fewer than eight of them, stretches of
    consecutive frames.

    Args:
        refs: frames in order, the frames of a sequence one after the other.
    """
    lengths = [len(list(frames)) for _, frames in groupby(ref.sequence for ref in refs)]
    if len(lengths) >= FEWEST_DRIVES:
        groups = min(len(lengths), MOST_GROUPS)
        of_drive = np.arange(len(lengths)) * groups // len(lengths)
        unit = "drives" if groups == len(lengths) else "groups of drives"
        return np.repeat(of_drive, lengths), unit
    count = min(STRETCHES, len(refs))
    unit = "frames" if count == len(refs) else "stretches of consecutive frames"
    return np.arange(len(refs)) * count // max(len(refs), 1), unit


def add_up(
    rows: Iterable[Mapping[str, Any]],
    refs: Sequence[FrameRef],
    ids: Mapping[str, int],
    classes: int,
    clusters: NDArray[np.int64],
    spec: str,
) -> dict[str, NDArray[np.int64]]:
    """Sum counts over all frames, in any order.

    Args:
        ids: number of ids of each segmenter, by name.
        classes: K.
        clusters: int64 [P], the cluster of each id of the segmenter called ``network``.

    Returns:
        int64 confusions [ids, K] by segmenter; for ``network`` also ``usage`` [P] and ``groups``
        [G, K, K], confusions of its clusters per group of `resampled_groups`; the number of
        ``frames``.

    Raises:
        InputError: no frame can be evaluated.
    """
    of_frame = resampled_groups(refs)[0]
    group_of = {ref.frame_id: group for ref, group in zip(refs, of_frame.tolist(), strict=True)}
    totals = {name: np.zeros((count, classes), np.int64) for name, count in ids.items()}
    groups = np.zeros((int(of_frame.max()) + 1, classes, classes), np.int64)
    usage = np.zeros(len(clusters), np.int64)
    frames, left_out, first = 0, 0, ""
    for row in rows:
        if row["reason"]:
            left_out, first = left_out + 1, first or row["reason"]
            continue
        frames += 1
        usage += np.frombuffer(row["usage"], np.int64)
        for name in (n for n in ids if row[n]):
            counts = np.frombuffer(row[name], np.int64).reshape(-1, classes)
            totals[name] += counts
            if name == NETWORK:
                groups[group_of[row["frame_id"]]] += sum_clusters(counts, clusters, classes)
    if not frames:
        raise InputError(f"{spec}: no frame can be evaluated; first error: {first}")
    if left_out:
        print(f"{counted(left_out, 'frame')} left out; first error: {first}")
    return {**totals, "usage": usage, "groups": groups, "frames": np.asarray(frames)}


def count_all(
    engine: str,
    source: FrameSource,
    size: tuple[int, int],
    segmenters: Mapping[str, Segmenter],
    classes: int,
    clusters: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Count confusions over all frames in one pass, with constant memory.

    Args:
        segmenters: by name; their ids are clusters or classes, 0..K-1.
        classes: K of the protocol, and clusters of every segmenter.
        clusters: int64 [P], the cluster of each prototype, if the ids of the segmenter called
            ``network`` are prototypes.

    Returns:
        as `add_up`.

    Raises:
        InputError: no frame can be evaluated, or no pixel has a label.
    """
    refs = source.refs()
    folded = np.arange(classes) if clusters is None else clusters
    ids = {name: len(folded) if name == NETWORK else classes for name in segmenters}
    rows = map_frames(SegmentFrames, (source, size, segmenters, ids, classes), refs, engine)
    with Progress(
        rows, total=len(refs), desc="evaluate", unit="frame", warmup=warmup_of(engine)
    ) as bar:
        totals = add_up(bar, refs, ids, classes, folded, source.spec)
    if source.protocol and not any(totals[name].any() for name in segmenters):
        raise InputError(
            f"{source.spec}: no pixel of its {totals['frames']} frames has a label of protocol "
            f"{source.protocol}; evaluate on frames with label maps."
        )
    return totals
