"""Prototypes named by a few labelled frames, and what they tell about classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from cpcdr.evaluate.few_labels import class_information, few_labels_curve, name_prototypes


def test_a_prototype_without_labels_takes_its_neighbour_s_class() -> None:
    prototypes = np.array([[1.0, 0], [0, 1], [0.9, 0.1], [0.2, 0.8]])
    counts = np.array([[5, 1, 0], [0, 2, 3], [0, 0, 0], [0, 0, 0]])
    assert name_prototypes(counts, prototypes).tolist() == [0, 2, 0, 2]
    assert name_prototypes(np.zeros((4, 3), int), prototypes).tolist() == [3, 3, 3, 3]


def test_the_curve_rises_to_the_majority_vote_of_all_frames() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(12) % 3
    # Every frame shows four of twelve prototypes, which are pure but for a tenth of noise.
    labelled = np.zeros((20, 12, 3), int)
    for frame in labelled:
        shown = random.choice(12, 4, replace=False)
        frame[shown] += 1
        frame[shown, truth[shown]] += 20
    used = labelled.sum(0)
    curve = few_labels_curve(labelled, used, np.eye(12), seed=1)
    assert list(curve) == [1, 2, 5, 10, 20], "no point beyond the labelled frames"
    means = [point["mean"] for point in curve.values()]
    assert means == sorted(means) and means[-1] > 0.8
    whole = curve[20]
    assert whole["low"] == whole["high"] == pytest.approx(whole["mean"])
    assert curve[2]["low"] < curve[2]["mean"] < curve[2]["high"]
    assert curve == few_labels_curve(labelled, used, np.eye(12), seed=1)


def test_class_information_is_the_mutual_information_of_the_pixels() -> None:
    random = np.random.default_rng(0)
    prototype = random.integers(0, 5, 4000)
    label = (prototype + random.integers(0, 3, 4000)) % 4
    counts = np.zeros((5, 4), int)
    np.add.at(counts, (prototype, label), 1)
    share = np.bincount(label) / len(label)
    entropy = -(share * np.log(share)).sum()
    expected = mutual_info_score(prototype, label) / entropy
    assert class_information(counts) == pytest.approx(expected)
    assert class_information(np.array([[7, 0]])) == 0
