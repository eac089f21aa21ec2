"""Bottom-up grouping of superpixels into coherent depth regions.

Source: the released code of Zeng et al. 2022 (arXiv 2211.14074), reimplemented from a description
of its behaviour. Three differences: by default, clustering follows the map equation without a
preferred number of communities (`RegionConfig.preferred_modules`), grouping ends when nothing
merges, where the released code recurses endlessly on planar depth, and regions of few superpixels
then join a neighbour (`RegionConfig.min_superpixels`).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from cpcdr.regions.config import RegionConfig
from cpcdr.regions.flow_graph import renumber
from cpcdr.regions.graph import SuperpixelGraph, superpixel_graph
from cpcdr.regions.map_equation import cluster

_LEAST_DISSIMILARITY = 1e-6  # keeps link weights 1 / w finite for any gain and bias


def regions_of_frame(
    image: NDArray[np.uint8],
    disparity: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    config: RegionConfig,
) -> tuple[NDArray[np.uint16], SuperpixelGraph]:
    """Regions uint16 [H, W] of a frame, and the graph they were grouped from.

    Args and errors are those of `superpixel_graph`.
    """
    graph = superpixel_graph(image, disparity, intrinsics, config)
    return group(graph, config), graph


def group(graph: SuperpixelGraph, config: RegionConfig) -> NDArray[np.uint16]:
    """Regions uint16 [H, W] that cover the frame, ids 0..R-1 in order of first appearance.

    Reads only ``gain``, ``bias``, ``separation``, ``min_superpixels``, ``preferred_modules`` and
    ``seed`` of ``config``.
    Each region is connected in the superpixel graph, hence in the image.
    """
    count = int(graph.superpixels.max()) + 1
    dissimilarity = expit(config.gain * graph.distance.astype(np.float64) - config.bias)
    dissimilarity = np.maximum(dissimilarity, _LEAST_DISSIMILARITY)
    region = group_nodes(graph.edges, dissimilarity, count, config)
    region = absorb_small(graph.edges, dissimilarity, region, config.min_superpixels)
    return region.astype(np.uint16)[graph.superpixels]


def group_nodes(
    edges: NDArray[np.int32], dissimilarity: NDArray[np.float64], nodes: int, config: RegionConfig
) -> NDArray[np.int32]:
    """Cluster a graph level by level until no two communities should merge.

    A level clusters its nodes on link weights 1 / w. Between two communities w is the mean over
    the edges of the *given* graph that cross their border, so that it does not depend on the order
    of merging. A community closer than ``separation`` to any other becomes a node of the next
    level; the others are final. Grouping ends when all are final or a level merged nothing.

    Args:
        edges: [E, 2] node pairs, each once, no self-loops.
        dissimilarity: [E] w in (0, 1].

    Returns:
        int32 [nodes], the region of each, ids 0..R-1 in order of first appearance.
    """
    region = np.arange(nodes, dtype=np.int32)  # identified by its first node
    pairs, mean = edges, dissimilarity
    while len(pairs):
        names, links = _compacted(pairs, nodes)
        community = cluster(links, 1.0 / mean, len(names), config.preferred_modules, config.seed)
        if int(community.max()) + 1 == len(names):
            break
        first_of = names[np.unique(community, return_index=True)[1]]
        renamed = np.arange(nodes, dtype=np.int32)
        renamed[names] = first_of[community]
        region = renamed[region]
        a, b = region[edges[:, 0]], region[edges[:, 1]]
        pairs, mean = _border_means(a, b, dissimilarity, nodes)
        active = np.zeros(nodes, bool)
        active[pairs[mean < config.separation]] = True
        kept = active[pairs[:, 0]] & active[pairs[:, 1]]
        pairs, mean = pairs[kept], mean[kept]
        kept = active[a] & active[b]
        edges, dissimilarity = edges[kept], dissimilarity[kept]
    return _compacted(region, nodes)[1]


def absorb_small(
    edges: NDArray[np.int32],
    dissimilarity: NDArray[np.float64],
    region: NDArray[np.int32],
    least: int,
) -> NDArray[np.int32]:
    """Every region of fewer than ``least`` superpixels joins a neighbour, until none is left.

    It joins the neighbour with the smallest mean dissimilarity along their border.

    Args:
        edges: [E, 2] pairs of superpixels.
        dissimilarity: [E].
        region: int32 [P] region of each superpixel, ids 0..R-1.

    Returns:
        int32 [P], ids 0..R-1 in order of first appearance.
    """
    while True:
        size = np.bincount(region)
        pairs, mean = _border_means(
            region[edges[:, 0]], region[edges[:, 1]], dissimilarity, len(size)
        )
        small, neighbour = np.concatenate([pairs, pairs[:, ::-1]]).T
        mean = np.concatenate([mean, mean])
        joining = size[small] < least
        if not joining.any():
            return region
        small, neighbour, mean = small[joining], neighbour[joining], mean[joining]
        order = np.lexsort((mean, small))
        small, first = np.unique(small[order], return_index=True)
        links = coo_array(
            (np.ones(len(small), bool), (small, neighbour[order][first])), (len(size), len(size))
        )
        region = connected_components(links, directed=False)[1][region].astype(np.int32)
        renumber(region)


def _compacted(
    values: NDArray[np.int32], nodes: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The nodes that occur, ascending, and each value as an index into them."""
    occurs = np.zeros(nodes, bool)
    occurs[values] = True
    return np.flatnonzero(occurs).astype(np.int32), np.cumsum(occurs, dtype=np.int32)[values] - 1


def _border_means(
    a: NDArray[np.int32], b: NDArray[np.int32], dissimilarity: NDArray[np.float64], nodes: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Pairs i < j of communities that share a border, and the mean dissimilarity across it.

    Args:
        a, b: [E] communities at the ends of each edge.
        dissimilarity: [E].
    """
    crossing = a != b
    a, b = a[crossing], b[crossing]
    keys = np.minimum(a, b) * np.int64(nodes) + np.maximum(a, b)
    keys, border = np.unique(keys, return_inverse=True)
    mean = np.bincount(border, dissimilarity[crossing]) / np.bincount(border)
    return np.stack([keys // nodes, keys % nodes], axis=1).astype(np.int32), mean
