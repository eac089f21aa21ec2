import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from cpcdr.evaluate.confusion import confusion
from cpcdr.runtime.errors import InputError


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 30))
def test_agrees_with_sklearn_and_adds_up(seed, num_classes, num_predicted):
    random = np.random.default_rng(seed)
    predicted = random.integers(0, num_predicted, (2, 9, 11))
    labels = random.integers(0, num_classes, (2, 9, 11)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.2] = 255
    counts = [confusion(predicted[i], labels[i], num_predicted, num_classes) for i in range(2)]
    kept = labels != 255
    size = max(num_predicted, num_classes)
    expected = confusion_matrix(predicted[kept], labels[kept], labels=np.arange(size))
    np.testing.assert_array_equal(counts[0] + counts[1], expected[:num_predicted, :num_classes])
    assert counts[0].dtype == np.int64


def test_unlabelled_pixels_are_not_counted():
    counts = confusion(np.zeros((2, 3), int), np.full((2, 3), 255, np.uint8), 4, 5)
    assert counts.shape == (4, 5) and not counts.any()


def test_label_ids_taken_for_train_ids_are_refused():
    with pytest.raises(InputError, match=r"33.*19 classes.*train ids"):
        confusion(np.zeros((1, 2), int), np.array([[7, 33]], np.uint8), 19, 19)


@pytest.mark.parametrize("value", [-1, 4])
def test_prediction_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=r"outside 0\.\.3"):
        confusion(np.array([[value]]), np.array([[0]], np.uint8), 4, 2)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="resize"):
        confusion(np.zeros((2, 2), int), np.zeros((4, 4), np.uint8), 2, 2)
