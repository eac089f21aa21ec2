import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cpcdr.evaluate.clusters import METHODS, cluster_prototypes
from cpcdr.evaluate.spherical import _without_empty
from cpcdr.runtime.errors import InputError


def blobs(num_clusters, each, channels=16, noise=0.05):
    random = np.random.default_rng(0)
    centres = np.linalg.qr(random.normal(size=(channels, num_clusters)))[0].T
    truth = np.repeat(np.arange(num_clusters), each)
    lengths = random.uniform(0.1, 10, (len(truth), 1))  # only the direction may count
    return (centres[truth] + noise * random.normal(size=(len(truth), channels))) * lengths, truth


@pytest.mark.parametrize("method", METHODS)
def test_directions_are_recovered_for_any_length(method):
    prototypes, truth = blobs(6, 20)
    clusters = cluster_prototypes(prototypes.astype(np.float32), 6, method)
    assert clusters.dtype == np.int64 and adjusted_rand_score(truth, clusters) == 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_clusters", [1, 7, 19, 40])
def test_no_cluster_is_empty_and_a_seed_repeats(method, num_clusters):
    prototypes = np.random.default_rng(1).normal(size=(40, 8))
    clusters = cluster_prototypes(prototypes, num_clusters, method, seed=3)
    assert sorted(set(clusters.tolist())) == list(range(num_clusters))
    np.testing.assert_array_equal(clusters, cluster_prototypes(prototypes, num_clusters, method, 3))


def test_average_linkage_agrees_with_scipy():
    from scipy.cluster.hierarchy import fcluster, linkage

    prototypes = np.random.default_rng(2).normal(size=(60, 8))
    expected = fcluster(linkage(prototypes, "average", metric="cosine"), 9, "maxclust")
    assert adjusted_rand_score(expected, cluster_prototypes(prototypes, 9)) == 1.0


def test_duplicates_still_fill_every_cluster():
    prototypes = np.repeat(np.eye(3), 4, axis=0)
    assert set(cluster_prototypes(prototypes, 5, "spherical").tolist()) == set(range(5))
    moved = _without_empty(np.zeros(4, np.intp), np.array([0.9, 0.1, 0.5, 1.0]), 3)
    assert moved.tolist() == [0, 1, 2, 0]


def test_bad_input_is_refused():
    prototypes = np.eye(4)
    with pytest.raises(InputError, match="4 prototypes cannot form 5"):
        cluster_prototypes(prototypes, 5)
    with pytest.raises(InputError, match="choose one of average"):
        cluster_prototypes(prototypes, 2, "single")
    for value in (0.0, np.nan):
        with pytest.raises(InputError, match="zero or not finite"):
            cluster_prototypes(np.vstack([prototypes, np.full((1, 4), value)]), 2)
