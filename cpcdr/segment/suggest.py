"""Which frames to label, and what clusters are like, from images and depth alone.

Shape letters: F frames, P prototypes, G clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cpcdr.dataset import Sample
from cpcdr.evaluate.network_scores import frame_features, nearest_prototypes
from cpcdr.evaluate.probes import grid_labels
from cpcdr.model.segmentation import SegmentationNetwork

_FLAT = 0.5
_FEW = 20  # places of a cluster in a frame from which a slope is taken


@dataclass(frozen=True)
class Seen:
    """A prepared frame as a network sees it, at stride 4.

    Attributes:
        nearest: int64 [h, w], the nearest prototype.
        disparity: float [h, w], in the frame's own units.
    """

    nearest: NDArray[np.int64]
    disparity: NDArray[np.floating]


def look_at(network: SegmentationNetwork, samples: Sequence[Sample]) -> list[Seen]:
    """Nearest prototypes and depth of prepared frames."""
    seen = []
    for sample in samples:
        near = nearest_prototypes(network, frame_features(network, sample.image[None])[0])
        seen.append(Seen(near, grid_labels(sample.disparity, near.shape)))
    return seen


def telling_frames(usage: NDArray[np.number], count: int, sequences: Sequence[str]) -> list[int]:
    """Frames whose labels would name most prototypes, most telling first.

    Each next frame adds most to what is seen of all prototypes. Of a prototype that is
    1 - exp(-2 x), where x are its pixels in the chosen frames, relative to the frame that shows it
    best; a common prototype weighs more, as the square root of its pixels. Frames of a sequence are
    at least F / (2 count) apart, as neighbours show the same things.

    Args:
        usage: [F, P] pixels of each prototype in each frame.
        sequences: of each frame.

    >>> usage = np.array([[9.0, 0, 0], [8, 1, 0], [0, 0, 4], [9, 0, 0]])
    >>> telling_frames(usage, 2, ["drive"] * 4)
    [1, 2]
    """
    chosen: list[int] = []
    numbers, names = np.arange(len(usage)), np.asarray(sequences)
    free, apart = np.full(len(usage), True), max(1, len(usage) // (2 * count))
    share, weight = usage / np.maximum(usage.max(0), 1), np.sqrt(usage.sum(0))
    covered = np.zeros(usage.shape[1])
    for _ in range(min(count, len(usage))):
        gain = -np.exp(-2 * (covered + share)) @ weight
        gain[~free] = -np.inf
        chosen.append(int(gain.argmax()))
        covered += share[chosen[-1]]
        near = np.abs(numbers - chosen[-1]) < apart
        free &= ~(near & (names == names[chosen[-1]]))
    return chosen


def usage_of(seen: Sequence[Seen], prototypes: int) -> NDArray[np.int64]:
    """Pixels of each prototype in each frame: int64 [F, P]."""
    return np.stack([np.bincount(s.nearest.ravel(), minlength=prototypes) for s in seen])


def describe(seen: Sequence[Seen], clusters: NDArray[np.int64]) -> list[str]:
    """What the clusters are like, such as ``flat, low, near``: never a class.

    ``high``, ``low`` and ``near``, ``far`` are the outer thirds of the mean row and the mean rank
    of disparity; ``flat`` is what comes nearer towards the bottom of a frame, other is ``upright``.

    Args:
        clusters: int64 [P], the cluster of each prototype.
    """
    rows: list[list[float]] = [[] for _ in range(int(clusters.max()) + 1)]
    ranks: list[list[float]] = [[] for _ in rows]
    slopes: list[list[float]] = [[] for _ in rows]
    for frame in seen:
        height, width = frame.nearest.shape
        row = np.repeat(np.arange(height), width) / height
        rank = rankdata(frame.disparity.ravel()) / (height * width)
        cluster = clusters[frame.nearest].ravel()
        for each in np.unique(cluster):
            mine = cluster == each
            rows[each].append(float(row[mine].mean()))
            ranks[each].append(float(rank[mine].mean()))
            if mine.sum() >= _FEW and row[mine].std() > 0 and rank[mine].std() > 0:
                slopes[each].append(float(np.corrcoef(row[mine], rank[mine])[0, 1]))
    return [
        _words(*each) if each[0] else "not seen" for each in zip(rows, ranks, slopes, strict=True)
    ]


def _words(rows: list[float], ranks: list[float], slopes: list[float]) -> str:
    flat = bool(slopes) and float(np.median(slopes)) > _FLAT
    low, near = float(np.mean(rows)), float(np.mean(ranks))
    words = ["flat" if flat else "upright"]
    words += ["high"] if low < 1 / 3 else ["low"] if low > 2 / 3 else []
    words += ["far"] if near < 1 / 3 else ["near"] if near > 2 / 3 else []
    return ", ".join(words)
