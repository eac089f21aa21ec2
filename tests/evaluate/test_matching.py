from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.matching import majority_vote, match, scores
from cpcdr.runtime.errors import InputError


def counts(max_clusters=5, max_classes=4):
    shapes = st.tuples(st.integers(1, max_clusters), st.integers(1, max_classes))
    return shapes.flatmap(lambda shape: arrays(np.int64, shape, elements=st.integers(0, 50)))


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_scores_agree_with_sklearn(seed, num_classes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, 300).astype(np.uint8)
    predicted = np.where(random.random(300) < 0.6, labels, random.integers(0, num_classes, 300))
    result = scores(confusion(predicted, labels, num_classes, num_classes))
    ious = jaccard_score(labels, predicted, average=None, labels=np.arange(num_classes))
    present = np.isin(np.arange(num_classes), labels)
    np.testing.assert_allclose(result.per_class_iou[present], ious[present])
    assert result.miou == pytest.approx(ious[present].mean())
    assert result.accuracy == pytest.approx(accuracy_score(labels, predicted))
    recall = [(predicted[labels == k] == k).mean() for k in np.flatnonzero(present)]
    assert result.class_accuracy == pytest.approx(np.mean(recall))
    if present.all():
        assert result.class_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))


@settings(max_examples=60)
@given(counts())
def test_hungarian_finds_the_best_mean_iou(table):
    clusters, classes = table.shape
    if not table.any():
        return
    # Every assignment of distinct classes to clusters; "no class" (= classes) may repeat.
    spare = [classes] * max(clusters - classes, 0)
    options = {p[:clusters] for p in permutations([*range(classes), *spare], clusters)}
    best = max(_miou(table, names) for names in options)
    assert scores(match(table).fold(table)).miou == pytest.approx(best)


def _miou(table, names):
    ious = []
    for k in np.flatnonzero(table.sum(0)):
        mine = [c for c, name in enumerate(names) if name == k]
        hits, area = table[mine, k].sum(), table[mine].sum()
        ious.append(hits / (area + table[:, k].sum() - hits))
    return np.mean(ious)


@given(counts())
def test_folding_keeps_every_pixel(table):
    for matched in (match(table), majority_vote(table)):
        folded = matched.fold(table)
        np.testing.assert_array_equal(folded.sum(0), table.sum(0))
        stack = matched.fold(np.stack([table, 2 * table]))
        np.testing.assert_array_equal(stack, np.stack([folded, 2 * folded]))


def test_a_permutation_is_undone():
    table = np.diag([5, 3, 9, 1])[[2, 0, 3, 1]]
    matched = match(table)
    assert matched.classes.tolist() == [2, 0, 3, 1]
    assert scores(matched.fold(table)).miou == 1.0
    assert matched.labels(np.array([[0, 1], [2, 3]])).tolist() == [[2, 0], [3, 1]]


def test_pixels_of_unmatched_clusters_are_errors():
    table = np.array([[8, 0], [0, 8], [2, 0], [0, 2]])
    matched = match(table)
    assert matched.classes.tolist() == [0, 1, 2, 2]
    result = scores(matched.fold(table))
    assert result.accuracy == result.miou == result.class_accuracy == 0.8
    assert matched.labels(np.array([3])).tolist() == [255]
    assert scores(majority_vote(table).fold(table)).miou == 1.0


def test_classes_without_a_cluster_have_iou_0():
    table = np.array([[6, 0, 2]])
    result = scores(match(table).fold(table))
    np.testing.assert_allclose(result.per_class_iou, [0.75, np.nan, 0])
    assert result.absent == (1,) and result.miou == 0.375 and result.pixels == 8


def test_predicting_an_absent_class_costs_the_class_that_is_there():
    result = scores(np.array([[6, 0], [2, 0]]))
    assert result.absent == (1,) and result.miou == 0.75 and np.isnan(result.per_class_iou[1])
    assert result.named(["road", "train"])["iou"] == {"road": 0.75}


def test_one_match_for_the_whole_set():
    """Two images that each look perfect under their own match contradict each other."""
    first, second = np.array([[4, 0], [0, 4]]), np.array([[0, 4], [4, 0]])
    whole = match(first + second)
    assert scores(whole.fold(first + second)).accuracy == 0.5


def test_majority_leaves_unused_clusters_without_class():
    assert majority_vote(np.array([[0, 0], [1, 3]])).classes.tolist() == [2, 1]


def test_no_labelled_pixel_is_refused():
    with pytest.raises(InputError, match="label maps"):
        scores(np.zeros((3, 3), np.int64))


def test_scores_refuse_unfolded_clusters():
    with pytest.raises(ValueError, match="fold"):
        scores(np.ones((7, 3), np.int64))
