"""How good regions are: against labels, and without any.

Measures against labels follow Stutz, Hermans and Leibe 2018, "Superpixels: an evaluation of the
state of the art" (CVIU 166). Label segments are the connected pieces of one class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE

GIANT = 0.5
"""Share of the image above which one region has swallowed the scene."""
DUST = 0.5
"""Share of the image above which regions too small to be pasted are too many."""
_STEP = 0.10  # relative change of disparity between neighbours that counts as a discontinuity


@dataclass(frozen=True)
class LabelQuality:
    """Regions against labels; all in 0..1.

    Attributes:
        accuracy: achievable segmentation accuracy: labelled pixels that are right if every region
            takes the class that most of its pixels have. Higher is better.
        undersegmentation: pixels that a region leaks over the border of a label segment, the
            smaller side counted, over all labelled pixels. Lower is better.
        boundary_recall: label borders with a region border within 0.25 % of the diagonal.
        purity: mean over the regions of the share of their most frequent class: small regions
            count as much as large ones.
    """

    accuracy: float
    undersegmentation: float
    boundary_recall: float
    purity: float


@dataclass(frozen=True)
class ShapeQuality:
    """Regions by themselves and against disparity.

    Attributes:
        regions: how many.
        largest: share of the image in the largest.
        dust: share of the image in regions that are too small to be pasted.
        discontinuities: depth discontinuities that lie on a region border; NaN without any.
        planarity: root mean square distance of disparity from the plane through its region,
            relative to disparity: 0 where every region is a plane.
    """

    regions: int
    largest: float
    dust: float
    discontinuities: float
    planarity: float

    def alarms(self) -> list[str]:
        """A sentence for each thing that is wrong."""
        found = []
        if self.largest > GIANT:
            found.append(f"one region covers {100 * self.largest:.0f} % of the image")
        if self.dust > DUST:
            found.append(f"{100 * self.dust:.0f} % of the image is too small to be pasted")
        return found


def label_quality(regions: NDArray[np.integer], labels: NDArray[np.uint8]) -> LabelQuality:
    """Regions [H, W] against labels [H, W], 255 = ignored.

    Raises:
        ValueError: no pixel has a label.
    """
    known = labels != IGNORE
    if not known.any():
        raise ValueError("no pixel has a label")
    table = _overlap(regions[known], labels[known].astype(np.int64))
    sizes = table.sum(axis=1)
    used = sizes > 0
    pieces = label_pieces(labels)
    leaks = _overlap(regions[known], pieces[known])
    leaked = np.minimum(leaks, leaks.sum(axis=1, keepdims=True) - leaks).sum()
    return LabelQuality(
        accuracy=float(table.max(axis=1).sum() / known.sum()),
        undersegmentation=float(leaked / known.sum()),
        boundary_recall=boundary_recall(regions, labels),
        purity=float((table.max(axis=1)[used] / sizes[used]).mean()),
    )


def boundary_recall(regions: NDArray[np.integer], labels: NDArray[np.uint8]) -> float:
    """Share of label borders that have a region border nearby; NaN where there are none."""
    known = labels != IGNORE
    wanted = borders(labels) & known & ~_grown(~known, 1)
    if not wanted.any():
        return float("nan")
    reach = max(1, round(0.0025 * float(np.hypot(*labels.shape))))
    return float(_grown(borders(regions), reach)[wanted].mean())


def shape_quality(
    regions: NDArray[np.integer], disparity: NDArray[np.floating] | None = None
) -> ShapeQuality:
    """Regions [H, W], ids from 0, against disparity [H, W] (0 = invalid) where it is given."""
    sizes = np.bincount(regions.ravel())
    sizes = sizes[sizes > 0]
    small = too_small(regions)
    counts = np.bincount(regions.ravel(), minlength=len(small))
    return ShapeQuality(
        regions=len(sizes),
        largest=float(sizes.max() / regions.size),
        dust=float(counts[small].sum() / regions.size),
        discontinuities=float("nan") if disparity is None else on_borders(regions, disparity),
        planarity=float("nan") if disparity is None else planarity(regions, disparity),
    )


def too_small(regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Bool [R]: the region is too low, too narrow or too small on both sides to be pasted.

    In a frame of 384 rows: h < 16, w < 6, or both below 32; other sizes in proportion.
    """
    scale = regions.shape[0] / 384
    count = int(regions.max()) + 1
    lows, highs = np.full((2, count), 1 << 30), np.full((2, count), -1)
    for axis, index in enumerate(np.indices(regions.shape)):
        np.minimum.at(lows[axis], regions.ravel(), index.ravel())
        np.maximum.at(highs[axis], regions.ravel(), index.ravel())
    height, width = highs - lows + 1
    both = (height < 32 * scale) & (width < 32 * scale)
    return (height < 16 * scale) | (width < 6 * scale) | both


def on_borders(regions: NDArray[np.integer], disparity: NDArray[np.floating]) -> float:
    """Share of depth discontinuities within a pixel of a region border; NaN without any."""
    d = np.maximum(disparity.astype(np.float64), 1e-6)
    steps = np.zeros(d.shape, bool)
    for axis in (0, 1):
        a, b = (np.take(d, range(i, d.shape[axis] - 1 + i), axis) for i in (0, 1))
        jump = np.abs(a - b) > _STEP * np.maximum(a, b)
        jump &= (a > 1e-6) & (b > 1e-6)
        steps[:-1, :] |= jump if axis == 0 else False
        if axis == 1:
            steps[:, :-1] |= jump
    return float(_grown(borders(regions), 1)[steps].mean()) if steps.any() else float("nan")


def planarity(regions: NDArray[np.integer], disparity: NDArray[np.floating]) -> float:
    """RMS of disparity against the best plane of each region, relative to disparity.

    A plane in space is a plane in (column, row, disparity), so one least-squares fit a region does.
    """
    valid = disparity.ravel() > 0
    ids = regions.ravel()[valid]
    rows, columns = (
        index.ravel()[valid] / max(regions.shape) for index in np.indices(regions.shape)
    )
    d = disparity.ravel()[valid].astype(np.float64)
    basis = np.stack([columns, rows, np.ones_like(rows)])
    count = int(regions.max()) + 1
    normal = np.empty((count, 3, 3))
    right = np.empty((count, 3))
    for i in range(3):
        right[:, i] = np.bincount(ids, basis[i] * d, count)
        for j in range(3):
            normal[:, i, j] = np.bincount(ids, basis[i] * basis[j], count)
    normal += 1e-9 * np.eye(3)
    plane = np.linalg.solve(normal, right[..., None])[..., 0]
    residual = d - (plane[ids] * basis.T).sum(axis=1)
    return float(np.sqrt(((residual / d) ** 2).mean()))


def borders(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another id."""
    edge = np.zeros(ids.shape, bool)
    edge[:, :-1] |= ids[:, 1:] != ids[:, :-1]
    edge[:-1] |= ids[1:] != ids[:-1]
    return edge


def label_pieces(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Connected pieces (4-neighbourhood) of the classes, numbered from 0."""
    pieces = np.zeros(labels.shape, np.int64)
    offset = 0
    for value in np.unique(labels):
        count, found = cv2.connectedComponents((labels == value).astype(np.uint8), connectivity=4)
        pieces[found > 0] = found[found > 0] - 1 + offset
        offset += count - 1
    return pieces


def _overlap(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many pixels have id i in ``a`` and j in ``b``, [max a + 1, max b + 1]."""
    columns = int(b.max()) + 1
    joint = a.astype(np.int64) * columns + b
    rows = int(a.max()) + 1
    return np.bincount(joint, minlength=rows * columns).reshape(rows, columns)


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0
