"""Classes for prototypes from a handful of labelled frames.

Every prototype takes the class that most of its pixels have in those frames. Nothing is trained, so
a score says what the clusters know, without forcing as many clusters as classes. Shape letters: F
labelled frames, P prototypes, K classes.
"""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.matching import Match, scores

NUMBERS = (1, 2, 5, 10, 20, 50)
"""Labelled frames of the points of a curve."""
_DRAWS = 50


class Point(TypedDict):
    """A point of a curve: mean mIoU over draws of frames, and where 95 % of the draws lie."""

    mean: float
    low: float
    high: float


def name_prototypes(
    counts: NDArray[np.integer], prototypes: NDArray[np.floating]
) -> NDArray[np.int64]:
    """The class of every prototype.

    Args:
        counts: [P, K] labelled pixels of each prototype and class.
        prototypes: [P, C] unit vectors.

    Returns:
        int64 [P]: the class of most of its pixels; of a prototype without any, that of the most
        similar one which has some; K if nothing is labelled.
    """
    seen = np.flatnonzero(counts.any(1))
    if not len(seen):
        return np.full(len(counts), counts.shape[1], np.int64)
    names = counts.argmax(1).astype(np.int64)
    unseen = np.setdiff1d(np.arange(len(counts)), seen)
    similar = (prototypes[unseen] @ prototypes[seen].T).argmax(1)
    names[unseen] = names[seen[similar]]
    return names


def few_labels_curve(
    labelled: NDArray[np.integer],
    used: NDArray[np.int64],
    prototypes: NDArray[np.floating],
    seed: int = 0,
    draws: int = _DRAWS,
) -> dict[int, Point]:
    """mIoU by number of labelled frames.

    Args:
        labelled: [F, P, K] pixels of each labelled frame, prototype and class.
        used: int64 [P, K] pixels of the evaluated frames.
        prototypes: [P, C] unit vectors.
        seed: of the draws of frames.

    Returns:
        a `Point` for each of `NUMBERS` up to F.
    """
    random = np.random.default_rng(seed)
    curve: dict[int, Point] = {}
    for number in (n for n in NUMBERS if n <= len(labelled)):
        mious = []
        for _ in range(draws):
            frames = random.choice(len(labelled), number, replace=False)
            names = name_prototypes(labelled[frames].sum(0), prototypes)
            match = Match(names, used.shape[1], "few-labels")
            mious.append(scores(match.fold(used)).miou)
        low, high = np.quantile(mious, [0.025, 0.975]).tolist()
        curve[number] = {"mean": float(np.mean(mious)), "low": low, "high": high}
    return curve


def class_information(counts: NDArray[np.integer]) -> float:
    """What prototypes tell about classes, in 0..1, from pixels [P, K].

    Mutual information of prototype and class, divided by the entropy of the classes: 1 if every
    prototype has pixels of one class only, 0 if all have the same mixture.

    >>> class_information(np.array([[4, 0], [0, 2], [0, 2]]))
    1.0
    >>> class_information(np.array([[2, 2], [1, 1]]))
    0.0
    """
    joint = counts / max(counts.sum(), 1)
    given, classes = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    ratio = np.divide(joint, given * classes, out=np.ones_like(joint), where=joint > 0)
    entropy = -float((classes * np.log(np.where(classes > 0, classes, 1))).sum())
    return float((joint * np.log(ratio)).sum()) / entropy if entropy > 0 else 0.0
