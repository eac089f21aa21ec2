"""Quality measures of regions, with and without labels.

Measures against labels follow Stutz, Hermans and Leibe 2018, "Superpixels: an evaluation of the
state of the art" (CVIU 166). Label segments are the connected components of one class.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE


class Limit(NamedTuple):
    """When a measure of `ShapeQuality` tells of bad regions.

    Attributes:
        measure: its name.
        most: good frames of any camera stay below this.
        hopeless: above this, nothing can be learned from the regions.
        sentence: what is wrong, with the percentage.
    """

    measure: str
    most: float
    hopeless: float
    sentence: str


LIMITS = {
    "giant region": Limit("largest", 0.5, 0.9, "one region covers {:.0f} % of the image"),
    "dust": Limit("dust", 0.5, 0.9, "{:.0f} % of the image is too small to be pasted"),
    "stripes": Limit("stripes", 0.15, 0.5, "stripes along image rows cover {:.0f} % of the image"),
    "rows": Limit("rows", 0.75, 1.0, "{:.0f} % of what separates regions is the image row alone"),
}
"""Problems by name."""
_STRIPE = 0.05  # of the image's height: what is thinner and lies along rows is a stripe
_STEP = 0.10  # relative change of disparity between neighbours that counts as a discontinuity


@dataclass(frozen=True)
class LabelQuality:
    """Regions against labels; all in 0..1.

    Attributes:
        accuracy: achievable segmentation accuracy: labelled pixels that are correct if every region
            takes its majority class. Higher is better.
        undersegmentation: pixels by which regions leak across borders of label segments, counting
            the smaller side, over all labelled pixels. Lower is better.
        boundary_recall: fraction of label borders with a region border within 0.25 % of the
            diagonal.
        purity: mean over regions of the fraction of their majority class: small regions count as
            much as large ones.
    """

    accuracy: float
    undersegmentation: float
    boundary_recall: float
    purity: float


@dataclass(frozen=True)
class ShapeQuality:
    """Sizes of regions, and regions against disparity.

    Attributes:
        largest: fraction of the image in the largest.
        dust: fraction of the image in regions that are too small to be pasted.
        stripes: fraction of the image in stripes along image rows (`stripes`).
        rows: how much more often regions change down a column than along a row, 0..1: 1 where they
            are bands of image rows.
        discontinuities: fraction of depth discontinuities on a region border; NaN without any.
        planarity: root mean square distance of disparity from the plane through its region,
            relative to disparity: 0 where every region is a plane.
    """

    regions: int
    largest: float
    dust: float
    stripes: float
    rows: float
    discontinuities: float
    planarity: float

    def problems(self) -> dict[str, float]:
        """The names of `LIMITS` that are exceeded, and the measures."""
        values = {name: float(getattr(self, limit.measure)) for name, limit in LIMITS.items()}
        return {name: value for name, value in values.items() if value > LIMITS[name].most}


def label_quality(regions: NDArray[np.integer], labels: NDArray[np.uint8]) -> LabelQuality:
    """Regions [H, W] against labels [H, W], 255 = ignored.

    Raises:
        ValueError: no pixel has a label.
    """
    labelled = labels != IGNORE
    if not labelled.any():
        raise ValueError("no pixel has a label")
    table = overlap(regions[labelled], labels[labelled].astype(np.int64))
    sizes = table.sum(axis=1)
    used = sizes > 0
    segments = label_segments(labels)
    leaks = overlap(regions[labelled], segments[labelled])
    leaked = np.minimum(leaks, leaks.sum(axis=1, keepdims=True) - leaks).sum()
    return LabelQuality(
        accuracy=float(table.max(axis=1).sum() / labelled.sum()),
        undersegmentation=float(leaked / labelled.sum()),
        boundary_recall=boundary_recall(regions, labels),
        purity=float((table.max(axis=1)[used] / sizes[used]).mean()),
    )


def boundary_recall(regions: NDArray[np.integer], labels: NDArray[np.uint8]) -> float:
    """Fraction of label borders with a region border nearby; NaN without label borders."""
    labelled = labels != IGNORE
    label_borders = borders(labels) & labelled & ~_dilated(~labelled, 1)
    if not label_borders.any():
        return float("nan")
    reach = max(1, round(0.0025 * float(np.hypot(*labels.shape))))
    return float(_dilated(borders(regions), reach)[label_borders].mean())


def shape_quality(
    regions: NDArray[np.integer], disparity: NDArray[np.floating] | None = None
) -> ShapeQuality:
    """Regions [H, W], ids from 0, against disparity [H, W] (0 = invalid) if given."""
    sizes = np.bincount(regions.ravel())
    sizes = sizes[sizes > 0]
    small = too_small(regions)
    counts = np.bincount(regions.ravel(), minlength=len(small))
    return ShapeQuality(
        regions=len(sizes),
        largest=float(sizes.max() / regions.size),
        dust=float(counts[small].sum() / regions.size),
        stripes=float(counts[stripes(regions)].sum() / regions.size),
        rows=row_dependence(regions),
        discontinuities=float("nan")
        if disparity is None
        else discontinuity_recall(regions, disparity),
        planarity=float("nan") if disparity is None else planarity(regions, disparity),
    )


def too_small(regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Bool [R]: the region is too low, too narrow or too small on both sides to be pasted.

    In a frame of 384 rows: h < 16, w < 6, or both below 32; other sizes in proportion.
    """
    scale = regions.shape[0] / 384
    height, width = _boxes(regions)
    both = (height < 32 * scale) & (width < 32 * scale)
    return (height < 16 * scale) | (width < 6 * scale) | both


def stripes(regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Bool [R]: the region is a stripe along image rows.

    It is more than ten times as wide as it is thick (its area by its width), no thicker than 5 % of
    the image's height, and not slanted: no higher than three times its thickness.
    """
    height, width = _boxes(regions)
    thickness = np.bincount(regions.ravel(), minlength=len(width)) / np.maximum(width, 1)
    thin = (width > 10 * thickness) & (thickness <= _STRIPE * regions.shape[0])
    return thin & (height <= 3 * thickness)


def row_dependence(regions: NDArray[np.integer]) -> float:
    """1 - P(regions differ along a row) / P(regions differ down a column), at least 0.

    Between pixels 5 % of the image's height apart.
    """
    step = max(1, round(_STRIPE * regions.shape[0]))
    along = (regions[:, step:] != regions[:, :-step]).mean()
    down = (regions[step:] != regions[:-step]).mean()
    return float(max(0.0, 1.0 - along / down)) if down > 0 else 0.0


def _boxes(regions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Heights and widths of the regions' bounding boxes, [2, R]."""
    count = int(regions.max()) + 1
    lows, highs = np.full((2, count), 1 << 30), np.full((2, count), -1)
    for axis, index in enumerate(np.indices(regions.shape)):
        np.minimum.at(lows[axis], regions.ravel(), index.ravel())
        np.maximum.at(highs[axis], regions.ravel(), index.ravel())
    return np.asarray(highs - lows + 1)


def discontinuity_recall(regions: NDArray[np.integer], disparity: NDArray[np.floating]) -> float:
    """Fraction of depth discontinuities within a pixel of a region border; NaN without any."""
    d = np.maximum(disparity.astype(np.float64), 1e-6)
    steps = np.zeros(d.shape, bool)
    for axis in (0, 1):
        a, b = (np.take(d, range(i, d.shape[axis] - 1 + i), axis) for i in (0, 1))
        jump = np.abs(a - b) > _STEP * np.maximum(a, b)
        jump &= (a > 1e-6) & (b > 1e-6)
        if axis == 0:
            steps[:-1] |= jump
        else:
            steps[:, :-1] |= jump
    return float(_dilated(borders(regions), 1)[steps].mean()) if steps.any() else float("nan")


def planarity(regions: NDArray[np.integer], disparity: NDArray[np.floating]) -> float:
    """RMS distance of disparity from the least-squares plane of each region, relative to disparity.

    A plane in space is a plane in (column, row, disparity), so one linear fit per region suffices.
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


def label_segments(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Connected components (4-neighbourhood) of the classes, numbered from 0."""
    segments = np.zeros(labels.shape, np.int64)
    offset = 0
    for value in np.unique(labels):
        count, components = cv2.connectedComponents(
            (labels == value).astype(np.uint8), connectivity=4
        )
        segments[components > 0] = components[components > 0] - 1 + offset
        offset += count - 1
    return segments


def overlap(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number of pixels with id i in ``a`` and j in ``b``: [max a + 1, max b + 1]."""
    columns = int(b.max()) + 1
    joint = a.astype(np.int64) * columns + b
    rows = int(a.max()) + 1
    return np.bincount(joint, minlength=rows * columns).reshape(rows, columns)


def _dilated(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0
