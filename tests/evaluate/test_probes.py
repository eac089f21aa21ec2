"""Probes against references: scikit-learn's ridge, separable data, neighbours by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from cpcdr.evaluate.probes import (
    Neighbours,
    RidgeProbe,
    grid_labels,
    linear_classes,
    prototype_purity,
    sample_pixels,
    sgd_probe,
)


def blobs(seed: int = 0, count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around three corners."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    corners = np.array([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0]])
    return corners[labels] + rng.normal(0, 0.7, (count, 4)), labels


def test_ridge_in_batches_equals_ridge_at_once() -> None:
    features, labels = blobs()
    probe = RidgeProbe(4, 3, penalty=0.05)
    partly_labelled = labels.copy()
    partly_labelled[::7] = 255
    for part in np.array_split(np.arange(len(labels)), 5):
        probe.add(features[part], partly_labelled[part])
    labelled = partly_labelled != 255
    x, y = features[labelled], np.eye(3)[labels[labelled]]
    model = Ridge(alpha=0.05 * (x**2).sum() / 4).fit(x, y)
    np.testing.assert_allclose(probe.solve()[:-1], model.coef_.T, atol=1e-6)
    np.testing.assert_allclose(probe.solve()[-1], model.intercept_, atol=1e-6)


def test_ridge_of_the_first_channels_is_that_of_them_alone() -> None:
    features, labels = blobs()
    labels[::7] = 255
    whole, alone = RidgeProbe(4, 3), RidgeProbe(2, 3)
    whole.add(features, labels)
    alone.add(features[:, :2], labels)
    np.testing.assert_allclose(whole.first(2).solve(), alone.solve(), rtol=1e-10)


def test_both_linear_probes_separate_what_is_separable() -> None:
    features, labels = blobs()
    other, truth = blobs(1)
    ridge = RidgeProbe(4, 3)
    ridge.add(features, labels)
    x = torch.from_numpy(features).float()
    sgd = sgd_probe(x, torch.from_numpy(labels), 3)
    assert (linear_classes(ridge.solve(), other) == truth).mean() > 0.97
    assert (linear_classes(sgd, other) == truth).mean() > 0.97
    np.testing.assert_array_equal(sgd, sgd_probe(x, torch.from_numpy(labels), 3))


def test_neighbours_vote() -> None:
    features, labels = blobs()
    unit = torch.nn.functional.normalize(torch.from_numpy(features).float(), dim=1)
    neighbours = Neighbours(unit, torch.from_numpy(labels), 3)
    other, truth = blobs(1)
    predicted = neighbours.classify(torch.from_numpy(other).float())
    assert (predicted == truth).mean() > 0.97
    few = Neighbours(torch.eye(2), torch.tensor([1, 0]), 2, k=20)
    assert few.classify(torch.tensor([[9.0, 1.0], [1.0, 9.0]])).tolist() == [1, 0]


def test_purity_and_sampling() -> None:
    assert prototype_purity(np.array([[3, 1], [0, 0], [0, 2]])) == pytest.approx(0.875)
    labels = np.array([[0, 255, 1], [1, 0, 255]], np.uint8)
    values = torch.arange(6.0).reshape(1, 2, 3)
    features, names = sample_pixels(values, labels, 3, np.random.default_rng(0))
    assert features.shape == (3, 1) and names.shape == (3,)
    assert all(int(labels.ravel()[int(f)]) == int(n) for f, n in zip(features, names, strict=True))
    nothing = np.full_like(labels, 255)
    assert sample_pixels(values, nothing, 3, np.random.default_rng(0))[0].shape == (0, 1)
    assert grid_labels(np.zeros((10, 20), np.uint8), (3, 5)).shape == (3, 5)
