"""Clustering of prototypes into as many groups as the protocol has classes, without labels.

scikit-learn is imported on demand: actors that only segment start seconds earlier.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.spherical import spherical_kmeans
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase

Clustering = Literal["average", "ward", "kmeans", "spherical"]
METHODS: tuple[str, ...] = get_args(Clustering)

CLUSTERS_WITHOUT_LABELS = 19
"""Default number of clusters where no label map determines it."""

_RESTARTS = 10  # of spherical k-means


@phase("clustering the prototypes")
def cluster_prototypes(
    prototypes: NDArray[np.floating], num_clusters: int, method: str = "average", seed: int = 0
) -> NDArray[np.int64]:
    """Group prototypes by direction.

    Args:
        prototypes: float [K, C]; only their directions matter.
        method: ``average`` (agglomerative, average linkage on cosine distance: the protocol of the
            paper), ``ward`` (agglomerative), ``kmeans`` or ``spherical`` (k-means on the sphere).
        seed: of the two k-means methods; the agglomerative ones are deterministic.

    Returns:
        int64 [K], the cluster 0..num_clusters-1 of each prototype; no cluster is empty.

    Raises:
        InputError: fewer prototypes than clusters, a zero or non-finite prototype, unknown method.
    """
    if method not in METHODS:
        raise InputError(f"Clustering {method!r} is unknown: choose one of {', '.join(METHODS)}.")
    if not 1 <= num_clusters <= len(prototypes):
        raise InputError(
            f"{len(prototypes)} prototypes cannot form {num_clusters} clusters: use a protocol "
            "with fewer classes or a model with more prototypes."
        )
    norms = np.linalg.norm(prototypes.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise InputError("A prototype is zero or not finite: the training diverged, restart it.")
    directions = prototypes / norms
    if num_clusters == len(prototypes):
        return np.arange(num_clusters, dtype=np.int64)
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if method == "average":
        clustering = AgglomerativeClustering(num_clusters, metric="cosine", linkage="average")
        return clustering.fit_predict(directions).astype(np.int64)
    if method == "ward":
        return AgglomerativeClustering(num_clusters).fit_predict(directions).astype(np.int64)
    if method == "kmeans":
        kmeans = KMeans(num_clusters, n_init=10, random_state=seed)
        return kmeans.fit_predict(directions).astype(np.int64)
    random = np.random.RandomState(seed)
    runs = [spherical_kmeans(directions, num_clusters, random) for _ in range(_RESTARTS)]
    return max(runs, key=lambda run: run[0])[1]


def sum_clusters(
    counts: NDArray[np.int64], clusters: NDArray[np.int64], num_clusters: int
) -> NDArray[np.int64]:
    """Sum counts per prototype, int64 [K, ...], to counts per cluster, [num_clusters, ...].

    >>> sum_clusters(np.array([[1, 2], [3, 4], [5, 6]]), np.array([1, 0, 1]), 2).tolist()
    [[3, 4], [6, 8]]
    """
    summed = np.zeros((num_clusters, *counts.shape[1:]), np.int64)
    np.add.at(summed, clusters, counts)
    return summed
