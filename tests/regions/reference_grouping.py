"""A plain, slow implementation of `cpcdr.regions`, with Infomap for the clustering."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from cpcdr.regions.config import RegionConfig


def reference_distances(ids, disparity, intrinsics):
    """{(i, j): d} for superpixels that share a pixel side, pixel by pixel."""
    fx, fy, cx, cy = (float(v) for v in intrinsics)
    height, width = ids.shape
    z = 1.0 / np.maximum(disparity.astype(np.float64), 0.005)
    v, u = np.mgrid[:height, :width]
    points = np.stack([(u - cx) / fx * z, -(v - cy) / fy * z, z], axis=-1)
    points /= points.std(axis=(0, 1))
    centre = [points[ids == i].mean(axis=0) for i in range(int(ids.max()) + 1)]
    pairs = set()
    for y in range(height):
        for x in range(width):
            for y2, x2 in ((y, x + 1), (y + 1, x)):
                if y2 < height and x2 < width and ids[y, x] != ids[y2, x2]:
                    pairs.add(tuple(sorted((int(ids[y, x]), int(ids[y2, x2])))))
    return {
        (i, j): float(np.linalg.norm(centre[i] - centre[j]) / (centre[i][2] + centre[j][2]))
        for i, j in sorted(pairs)
    }


def code_length(edges, weights, modules):
    """Bits per step that describe a random walk with this partition: the map equation L(M).

    Rosvall and Bergstrom 2008, for an undirected graph, whose stationary flow is known. ``edges``
    is [E, 2], each pair once; ``modules`` [N] are any non-negative integers.
    """
    if weights.sum() == 0:
        return 0.0
    link = np.asarray(weights, np.float64) / (2 * weights.sum())
    visits, numbered = np.zeros(len(modules)), np.unique(modules, return_inverse=True)[1]
    np.add.at(visits, edges, link[:, None])
    leaving = np.zeros(numbered.max() + 1)
    crossing = numbered[edges[:, 0]] != numbered[edges[:, 1]]
    np.add.at(leaving, numbered[edges[crossing]], link[crossing, None])
    flow = np.bincount(numbered, visits)
    bits = _plogp(leaving.sum()) - 2 * _plogp(leaving) - _plogp(visits) + _plogp(leaving + flow)
    return float(bits)


def _plogp(p):
    p = np.atleast_1d(p)
    return float((p[p > 0] * np.log2(p[p > 0])).sum())


def infomap_modules(edges, weights, nodes, options="", seed=1):
    """Infomap's two-level modules int [nodes], its code length in bits, its number of modules."""
    import infomap

    network = infomap.Infomap(f"--two-level --silent --seed {seed} {options}")
    for node in range(nodes):
        network.add_node(node)
    for (i, j), weight in zip(edges, weights, strict=True):
        network.add_link(int(i), int(j), float(weight))
    result = network.run()
    modules = np.zeros(nodes, int)
    for node in result.nodes(states=True):
        modules[node.node_id] = node.module_id
    return modules, result.codelength


def reference_group(edges, distance, nodes, config: RegionConfig, seed=1):
    """Region of each node, the grouping loop with dicts and sets."""
    dissimilarity = {
        (int(i), int(j)): 1.0 / (1.0 + np.exp(config.bias - config.gain * float(d)))
        for (i, j), d in zip(edges, distance, strict=True)
    }
    region = list(range(nodes))
    going = set(range(nodes))
    while True:
        level = border_means(dissimilarity, region, going)
        names = sorted({name for pair in level for name in pair})
        if not names:
            break
        index = {name: k for k, name in enumerate(names)}
        modules, _ = infomap_modules(
            [(index[i], index[j]) for i, j in level], [1 / w for w in level.values()], len(names),
            seed=seed,
        )  # fmt: skip
        if len(set(modules)) == len(names):
            break
        first = {}
        for name in names:
            first.setdefault(modules[index[name]], name)
        region = [first[modules[index[r]]] if r in index else r for r in region]
        communities = {first[m] for m in modules}
        level = border_means(dissimilarity, region, communities)
        going = {name for pair, w in level.items() if w < config.separation for name in pair}
    return np.unique(region, return_inverse=True)[1]


def border_means(dissimilarity, region, going):
    values = defaultdict(list)
    for (i, j), w in dissimilarity.items():
        a, b = sorted((region[i], region[j]))
        if a != b and a in going and b in going:
            values[a, b].append(w)
    return {pair: float(np.mean(w)) for pair, w in sorted(values.items())}
