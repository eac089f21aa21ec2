"""Confusion counts, all that evaluation keeps of a frame: memory does not grow with frames."""

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE
from cpcdr.runtime.errors import InputError


def confusion(
    predicted: NDArray[np.integer], labels: NDArray[np.uint8], num_predicted: int, num_classes: int
) -> NDArray[np.int64]:
    """Count the pixels of every (predicted, label) pair. Counts of frames add up with ``+``.

    Args:
        predicted: int, any shape, values 0..P-1: clusters or classes.
        labels: uint8, the same shape, values 0..K-1; 255 is ignored.
        num_predicted: P.
        num_classes: K.

    Returns:
        int64 [P, K], rows are predictions, columns are labels.

    Raises:
        InputError: the shapes differ, or a value is out of range. Labels outside
            the protocol are not dropped: they mean that label ids were taken for train ids.
    """
    if predicted.shape != labels.shape:
        raise InputError(
            f"The prediction is {predicted.shape} and the label map {labels.shape}: resize the "
            "prediction to the labels first."
        )
    counted = labels != IGNORE
    rows = predicted[counted].astype(np.int64)
    columns = labels[counted].astype(np.int64)
    if columns.size and columns.max() >= num_classes:
        raise InputError(
            f"The label map holds {columns.max()}, but the protocol has {num_classes} classes "
            "(and 255 = ignore): map the label ids to the protocol's train ids first."
        )
    if rows.size and not 0 <= rows.min() <= rows.max() < num_predicted:
        raise InputError(
            f"The prediction holds {rows.min()}..{rows.max()}, outside 0..{num_predicted - 1}: "
            "use the number of clusters it was made with."
        )
    counts = np.bincount(rows * num_classes + columns, minlength=num_predicted * num_classes)
    return counts.reshape(num_predicted, num_classes).astype(np.int64)
