"""k-means on the sphere: features are compared by cosine, as pre-training compares them."""

import numpy as np
from numpy.typing import NDArray

_MAX_ROUNDS = 300


def spherical_kmeans(
    directions: NDArray[np.floating],
    num_clusters: int,
    random: np.random.RandomState,
    still: int = 0,
) -> tuple[float, NDArray[np.int64], NDArray[np.floating]]:
    """Cluster unit vectors [N, C] from a k-means++ start (Dhillon & Modha 2001, algorithm 1).

    Args:
        still: the rounds end when no more vectors than these move to another cluster.

    Returns:
        the sum of the similarities of vectors and their centres, the cluster of each vector, int64
        [N] (no cluster is empty), and the centres, [num_clusters, C] unit vectors.
    """
    from sklearn.cluster import kmeans_plusplus  # slow to import

    centres, _ = kmeans_plusplus(directions, num_clusters, random_state=random)
    assigned = np.full(len(directions), -1, np.int64)
    member = np.eye(num_clusters, dtype=directions.dtype)
    for _ in range(_MAX_ROUNDS):
        similarity = directions @ centres.T
        nearest = _without_empty(similarity.argmax(1), similarity.max(1), num_clusters)
        moved = int((nearest != assigned).sum())
        assigned = nearest
        if moved <= still:
            break
        sums = member[:, assigned] @ directions
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return float((directions * centres[assigned]).sum()), assigned, centres


def _without_empty(
    nearest: NDArray[np.intp], similarity: NDArray[np.floating], num_clusters: int
) -> NDArray[np.int64]:
    """Assign to each empty cluster the worst-fitting member of a cluster with several."""
    nearest = nearest.astype(np.int64)
    sizes = np.bincount(nearest, minlength=num_clusters)
    if sizes.all():
        return nearest
    worst_first = iter(np.argsort(similarity, kind="stable"))
    for empty in np.flatnonzero(sizes == 0):
        member = next(m for m in worst_first if sizes[nearest[m]] > 1)
        sizes[nearest[member]] -= 1
        sizes[empty] = 1
        nearest[member] = empty
    return nearest
