"""Quality of regions from a sample of pixels; milliseconds per frame and threshold set.

Without labels, a partition is scored by its agreement with the partitions of the same frame under
other settings: real boundaries are stable across thresholds, spurious or missing ones are not. This
is consensus clustering (Strehl and Ghosh 2002, "Cluster ensembles", JMLR 3); agreement is the F1 of
"in one region" over pairs of pixels. With labels, the reference is the connected components of each
class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import SuperpixelGraph, superpixel_graph
from cpcdr.regions.grouping import group
from cpcdr.regions.quality import label_segments, overlap

TERMS = ("plane_weight", "colour_weight", "centre_weight")
POINTS = 5000  # sampled pixels of a frame, on a regular grid


@dataclass(frozen=True, eq=False)
class FrameGraph:
    """The graph of one frame, ready to be grouped under many settings.

    Attributes:
        edges: int32 [E, 2], pairs of neighbouring superpixels.
        terms: float32 [3, E], the terms of the edge distance in the order of `TERMS`, their
            weights.
        grid: int64 [S] the superpixel under each sampled pixel.
    """

    edges: NDArray[np.int32]
    terms: NDArray[np.float32]
    grid: NDArray[np.int64]


def frame_graph(
    image: NDArray[np.uint8],
    disparity: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    config: RegionConfig,
) -> FrameGraph:
    """Superpixels and the three terms of their graph; arguments as for `superpixel_graph`.

    Ignores the weights in ``config``.
    """
    none: dict[str, Any] = dict.fromkeys(TERMS, 0.0)
    frame = (image, disparity, intrinsics)
    graphs = [superpixel_graph(*frame, replace(config, **none | {name: 1.0})) for name in TERMS]
    terms = np.stack([graph.distance for graph in graphs])
    return FrameGraph(graphs[0].edges, terms, on_grid(graphs[0].superpixels).astype(np.int64))


def on_grid(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """About `POINTS` pixels of a map [H, W], flattened."""
    step = max(1, int(np.sqrt(values.size / POINTS)))
    return values[step // 2 :: step, step // 2 :: step].ravel()


def partition(graph: FrameGraph, config: RegionConfig) -> NDArray[np.uint16]:
    """The region of each sampled pixel, uint16 [S]."""
    weights = np.array([getattr(config, name) for name in TERMS])
    distance = (weights @ graph.terms).astype(np.float32)
    nodes = np.arange(int(graph.edges.max(initial=0)) + 1, dtype=np.uint16)[None]
    return group(SuperpixelGraph(nodes, graph.edges, distance), config)[0][graph.grid]


def consensus(regions: NDArray[np.integer], others: Sequence[NDArray[np.integer]]) -> float:
    """Mean agreement of a partition [S] with other partitions of the same pixels."""
    return float(np.mean([pair_f1(overlap(regions, other)) for other in others]))


def label_scores(regions: NDArray[np.integer], labels: NDArray[np.uint8]) -> dict[str, float]:
    """``pairs``: F1 of pairs against connected pieces of a class; ``accuracy``: achievable one.

    Args:
        regions: [S] as `partition` gives them.
        labels: uint8 [H, W], 255 = ignored, some pixel labelled.
    """
    classes, pieces = on_grid(labels), on_grid(label_segments(labels))
    labelled = classes != IGNORE
    of_class = overlap(regions[labelled], classes[labelled])
    return {
        "pairs": pair_f1(overlap(regions[labelled], pieces[labelled])),
        "accuracy": float(of_class.max(axis=1).sum() / labelled.sum()),
    }


def pair_f1(counts: NDArray[np.number]) -> float:
    """F1 of "together here" against "together there" over all pairs of pixels.

    >>> pair_f1(np.diag([3.0, 5.0])), pair_f1(np.array([[4.0, 4.0]]))
    (1.0, 0.6666666666666666)
    """
    both = (counts**2).sum()
    alone = (counts.sum(axis=1) ** 2).sum() + (counts.sum(axis=0) ** 2).sum()
    return float(2 * both / alone)
