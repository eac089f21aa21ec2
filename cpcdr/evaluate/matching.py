"""From confusion counts to scores: matching clusters to classes, and IoU.

Clusters are matched once, over the whole evaluated set: a match per image would let every image
choose the assignment that suits it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cpcdr.frames.frame import IGNORE
from cpcdr.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Match:
    """The class of every cluster.

    Attributes:
        classes: int64 [P], class 0..K-1 of each cluster; K where the cluster has no class.
        num_classes: K.
        method: ``hungarian`` (one to one) or ``majority`` (many to one, optimistic).
    """

    classes: NDArray[np.int64]
    num_classes: int
    method: str

    def fold(self, confusion: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum rows of clusters, int64 [..., P, K], into rows of classes.

        Returns:
            int64 [..., K+1, K]; the last row holds the pixels of clusters without a class.
        """
        shape = (*confusion.shape[:-2], self.num_classes + 1, self.num_classes)
        folded = np.zeros(shape, np.int64)
        for cluster, name in enumerate(self.classes):
            folded[..., name, :] += confusion[..., cluster, :]
        return folded

    def labels(self, clusters: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Turn a cluster map, int [...] of 0..P-1, into a label map, uint8; 255 = no class."""
        table = np.where(self.classes < self.num_classes, self.classes, IGNORE).astype(np.uint8)
        return table[clusters]


@dataclass(frozen=True, eq=False)
class Scores:
    """Segmentation scores, all in [0, 1].

    Attributes:
        miou: mean of ``per_class_iou`` over the classes that occur in the labels.
        accuracy: fraction of labelled pixels that are correct.
        class_accuracy: mean over the same classes of the fraction of correct pixels.
        per_class_iou: float64 [K]; NaN for the classes in ``absent``.
        absent: classes that occur in no label map, excluded from the means.
    """

    miou: float
    accuracy: float
    class_accuracy: float
    per_class_iou: NDArray[np.float64]
    absent: tuple[int, ...]
    pixels: int

    def named(self, classes: Sequence[str]) -> dict[str, float | dict[str, float]]:
        """The scores as a plain dict, per-class IoU by class name without absent classes."""
        ious = {
            name: float(iou)
            for name, iou in zip(classes, self.per_class_iou, strict=True)
            if np.isfinite(iou)
        }
        return {
            "miou": self.miou,
            "accuracy": self.accuracy,
            "class_accuracy": self.class_accuracy,
            "iou": ious,
        }


def match(confusion: NDArray[np.int64]) -> Match:
    """The one-to-one match of P clusters and K classes with the largest mean IoU (Hungarian).

    A class's IoU depends on its own cluster alone, so the best assignment on the IoU matrix has the
    best mIoU. Surplus clusters get no class and their pixels are errors; classes without a cluster
    have IoU 0.

    Source:
        H. W. Kuhn, The Hungarian method for the assignment problem, 1955.
    """
    clusters, num_classes = confusion.shape
    union = confusion.sum(1, keepdims=True) + confusion.sum(0, keepdims=True) - confusion
    iou = confusion / np.maximum(union, 1)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    classes = np.full(clusters, num_classes, np.int64)
    classes[rows] = columns
    return Match(classes, num_classes, "hungarian")


def matched_scores(confusion: NDArray[np.int64]) -> Scores:
    """Scores of clusters under their best `match`, from their confusion int64 [P, K]."""
    return scores(match(confusion).fold(confusion))


def majority_vote(confusion: NDArray[np.int64]) -> Match:
    """Every cluster takes its majority class: many to one, chosen with the labels.

    An upper bound for over-clustering, not comparable with `match`. Clusters without labelled
    pixels have no class. ``confusion`` is int64 [P, K].
    """
    classes = np.where(confusion.any(1), confusion.argmax(1), confusion.shape[1])
    return Match(classes.astype(np.int64), confusion.shape[1], "majority")


def class_ious(
    hits: NDArray[np.number], predicted: NDArray[np.number], labelled: NDArray[np.number]
) -> NDArray[np.float64]:
    """IoU from pixel counts of equal shape [..., K]; NaN where a class has no labelled pixel."""
    union = predicted + labelled - hits
    return np.where(labelled > 0, hits / np.maximum(union, 1), np.nan)


def scores(confusion: NDArray[np.int64]) -> Scores:
    """Scores of class predictions.

    Args:
        confusion: int64 [K, K] or [K+1, K], rows predicted, columns labels; row K are predictions
            without a class, which count as errors.

    Raises:
        InputError: no pixel is labelled.
    """
    rows, num_classes = confusion.shape
    if rows not in (num_classes, num_classes + 1):
        raise ValueError(f"confusion is {confusion.shape}: fold it with a Match first")
    labelled = confusion.sum(0)
    if not labelled.any():
        raise InputError("No pixel has a label: evaluate on frames that come with label maps.")
    square = confusion[:num_classes]
    hits = square.diagonal()
    ious = class_ious(hits, square.sum(1), labelled)
    present = labelled > 0
    return Scores(
        miou=float(ious[present].mean()),
        accuracy=float(hits.sum() / labelled.sum()),
        class_accuracy=float((hits[present] / labelled[present]).mean()),
        per_class_iou=ious,
        absent=tuple(np.flatnonzero(~present).tolist()),
        pixels=int(labelled.sum()),
    )
