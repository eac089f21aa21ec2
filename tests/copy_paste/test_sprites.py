"""Draws: which regions, where and how large; colours as matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.copy_paste import cpu as cpu_kernels
from cpcdr.copy_paste.appearance import LUMA, blur_images, chained, colour_matrix, colours
from cpcdr.copy_paste.config import ColourConfig, CopyPasteConfig, ViewConfig
from cpcdr.copy_paste.shading import build_pyramid
from cpcdr.copy_paste.sprites import bounding_boxes, eligible, place
from cpcdr.copy_paste.views import draw_views
from cpcdr.runtime.errors import InputError


def box(width: int, height: int) -> np.ndarray:
    return np.array([[10, 20, 9 + width, 19 + height]], np.int32)


@pytest.mark.parametrize(
    ("width", "height", "pasted"),
    [
        (40, 15, False),
        (40, 16, True),
        (5, 60, False),
        (6, 60, True),
        (31, 31, False),
        (31, 32, True),
        (753, 369, False),
        (752, 384, True),
    ],
)
def test_eligibility_at_the_reference_height(width: int, height: int, pasted: bool) -> None:
    assert eligible(box(width, height), (384, 768), CopyPasteConfig())[0] == pasted


def test_eligibility_scales_with_the_frame() -> None:
    config = CopyPasteConfig()
    assert eligible(box(10, 4), (96, 192), config)[0]
    assert not eligible(box(10, 3), (96, 192), config)[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(6, 300), st.integers(16, 200), st.integers(0, 2**32))
def test_pastes_stay_within_their_limits(width: int, height: int, seed: int) -> None:
    size, boxes = (384, 768), np.repeat(box(width, height), 50, 0)
    uniform = np.random.default_rng(seed).random((50, 4))
    scale, affine = place(uniform, boxes, size, CopyPasteConfig())
    assert np.all(scale <= 2.0 + 1e-9)
    assert np.all(scale * min(width, height) >= 8.0 - 1e-6)
    corners = np.stack([boxes[:, :2] - 0.5, boxes[:, 2:] + 0.5])
    low, high = np.sort(affine[..., 0] * corners + affine[..., 1], axis=0) + 0.5
    assert np.all(high[:, 0] >= 1 - 1e-6) and np.all(low[:, 0] <= size[1] - 1 + 1e-6)
    about_horizon = (boxes[:, 1] - size[0] / 2) * scale + size[0] / 2
    assert np.all(np.abs(low[:, 1] - about_horizon) <= 16 + 1e-6)


def test_scale_is_uniform_in_its_inverse() -> None:
    uniform = np.random.default_rng(0).random((20_000, 4))
    scale, _ = place(uniform, np.repeat(box(100, 100), 20_000, 0), (384, 768), CopyPasteConfig())
    counts, _ = np.histogram(1 / scale, bins=9, range=(0.5, 5.0))
    assert counts.min() > 0.9 * 20_000 / 9 and counts.max() < 1.1 * 20_000 / 9


def test_bounding_boxes_both_ways() -> None:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (3, 9, 13), np.int32))
    slow, fast = bounding_boxes(ids, 42), cpu_kernels.bounding_boxes(ids, 42)
    for region in range(40):
        _, y, x = torch.nonzero(ids == region, as_tuple=True)
        assert slow[region].tolist() == [x.min(), y.min(), x.max(), y.max()]
    assert torch.equal(slow[:40], fast[:40])
    assert torch.all(slow[40:, 2] < slow[40:, 0]) and torch.all(fast[40:, 2] < fast[40:, 0])


def test_pyramids_are_equal() -> None:
    random = np.random.default_rng(1)
    images = torch.from_numpy(random.integers(0, 256, (2, 3, 21, 34), np.uint8))
    ids = torch.from_numpy(random.integers(0, 3, (2, 21, 34), np.int32))
    slow, fast = build_pyramid(images, ids), cpu_kernels.build_pyramid(images, ids)
    assert torch.equal(slow.ids, fast.ids)
    assert torch.equal(slow.texels, fast.texels)


def test_views_cover_every_pixel_of_the_image() -> None:
    random = np.random.default_rng(0)
    affine = draw_views(random, np.full(200, 0.4), (96, 160), ViewConfig(), 0.25).affine
    for axis, side in enumerate((160, 96)):
        ends = np.array([-0.5, side - 0.5])[:, None]
        source = (ends - affine[:, axis, 1]) / affine[:, axis, 0]
        assert source.min() >= -0.5 - 1e-9 and source.max() <= side - 0.5 + 1e-9
    assert 0.3 < (affine[:, 0, 0] < 0).mean() < 0.7


def test_no_change_is_the_identity_and_grey_has_one_channel() -> None:
    identity = colour_matrix(np.zeros((1, 4)), np.array([0.3]))[0]
    assert np.allclose(identity, np.eye(3, 4), atol=1e-12)
    uniform = np.random.default_rng(0).random((30, 8))
    drawn = colours(uniform, np.full(30, 0.4), ColourConfig(grey_probability=1.0), 1.0)
    assert np.allclose(drawn.matrix, drawn.matrix[:, :1])


def test_jitters_do_what_they_say() -> None:
    rgb, grey = np.array([0.2, 0.5, 0.8]), np.array([0.4])

    def jittered(*change: float) -> np.ndarray:
        matrix = colour_matrix(np.array([change]), grey)[0]
        return matrix[:, :3] @ rgb + matrix[:, 3]

    assert np.allclose(jittered(0.5, 0, 0, 0), 1.5 * rgb)
    assert np.allclose(jittered(0, 0.5, 0, 0), 0.4 + 1.5 * (rgb - 0.4))
    assert np.allclose(jittered(0, 0, -1, 0), LUMA @ rgb)
    assert np.isclose(LUMA @ jittered(0, 0, 0, 0.2), LUMA @ rgb)
    assert np.allclose(jittered(0, 0, 0, 1), rgb)
    assert not np.allclose(jittered(0, 0, 0, 0.2), rgb, atol=0.1)


def test_colour_matrices_compose() -> None:
    first, second = np.random.default_rng(0).random((2, 5, 3, 4))
    rgb = np.random.default_rng(1).random(3)
    once = first[:, :, :3] @ rgb + first[:, :, 3]
    twice = (second[:, :, :3] @ once[..., None])[..., 0] + second[:, :, 3]
    both = chained(second, first)
    assert np.allclose(both[:, :, :3] @ rgb + both[:, :, 3], twice)


def test_blur_is_gaussian_and_spares_the_other_images() -> None:
    images = torch.zeros(2, 3, 41, 41)
    images[:, :, 20, 20] = 1.0
    blur_images(images, np.array([0.0, 2.0]))
    assert images[0].count_nonzero() == 3
    assert torch.allclose(images[1].sum((1, 2)), torch.ones(3), atol=1e-5)
    offset = torch.arange(41) - 20.0
    variance = (images[1, 0].sum(0) * offset**2).sum()
    assert abs(variance.sqrt() - 2.0) < 0.1


def test_configuration_is_checked() -> None:
    for build in (
        lambda: ColourConfig(blur_probability=2.0),
        lambda: ColourConfig(jitter=(0.5, 0.5, 0.5, 0.7)),
        lambda: ViewConfig(zoom=(0.5, 1.0)),
        lambda: CopyPasteConfig(scale=(0.0, 1.0)),
    ):
        with pytest.raises(InputError):
            build()
