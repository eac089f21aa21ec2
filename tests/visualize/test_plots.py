"""Plots are images, also with absent classes."""

from __future__ import annotations

import numpy as np

from cpcdr.visualize import plots

PALETTE = np.array([[128, 64, 128], [70, 130, 180], [107, 142, 35]], np.uint8)
CLASSES = ["road", "sky", "vegetation"]


def is_image(image: np.ndarray) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_charts_are_images_also_with_absent_classes() -> None:
    counts = np.array([[5, 0, 1], [1, 0, 1], [0, 0, 8], [2, 0, 0]])
    bars = plots.per_class_bars(np.array([0.4, np.nan, 0.9]), CLASSES, PALETTE, "camvid-11")
    assert is_image(plots.confusion_figure(counts, CLASSES, "3 classes"))
    assert is_image(bars) and (bars == PALETTE[2]).all(-1).sum() > 500
    assert is_image(plots.per_class_bars(np.full(3, np.nan), CLASSES))


def test_ways_from_above() -> None:
    way = np.cumsum(np.ones((20, 3)), axis=0)
    one, two = (plots.trajectory_figure(paths) for paths in ({"a": way}, {"a": way, "b": -way}))
    assert is_image(one) and is_image(two) and not np.array_equal(one, two)
