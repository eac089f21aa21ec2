"""Exact depth of consecutive frames agrees, up to scale and motion; flickering depth does not."""

from __future__ import annotations

import numpy as np
import pytest

from cpcdr.evaluate.depth_consistency import temporal_error
from cpcdr.frames import open_frames


def test_consecutive_frames_agree_up_to_scale_and_motion() -> None:
    source = open_frames("synthetic:seed=7,streets=3,frames=2,height=96,width=192")
    frames = [source.read(ref) for ref in source.refs()]
    rng = np.random.default_rng(0)
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        assert first.disparity is not None and second.disparity is not None
        before, after, images = first.disparity, second.disparity, (first.image, second.image)
        exact = temporal_error(images[0], before, images[1], after)
        halved = temporal_error(images[0], before, images[1], 0.5 * after)
        noise = np.exp(0.3 * rng.standard_normal(after.shape)).astype(np.float32)
        flickering = temporal_error(images[0], before, images[1], after * noise)
        assert exact < 0.05 and halved == pytest.approx(exact, abs=0.01)
        assert flickering > 0.1


def test_motion_forward_is_no_error_and_a_map_turned_inside_out_is() -> None:
    """z' = z - 2, then z' = 45 - z, where the image does not move."""
    image = np.random.default_rng(1).integers(0, 255, (64, 128, 3), np.uint8)
    depth = np.repeat(np.linspace(5, 40, 128, dtype=np.float32)[None], 64, axis=0)
    assert temporal_error(image, 1 / depth, image, 1 / (depth - 2)) < 1e-3
    assert temporal_error(image, 1 / depth, image, 1 / depth[:, ::-1].copy()) > 0.2


def test_too_few_pixels_have_no_error() -> None:
    image = np.random.default_rng(2).integers(0, 255, (40, 80, 3), np.uint8)
    empty = np.zeros((40, 80), np.float32)
    assert np.isnan(temporal_error(image, empty, image, empty))
    tiny, full = image[:8, :8].copy(), np.full((8, 8), 0.5, np.float32)
    assert np.isnan(temporal_error(tiny, full, tiny, full))
