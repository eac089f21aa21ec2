"""Correspondences against a small renderer that paints where every pixel came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, compose
from cpcdr.loss.correspondences import (
    Points,
    features_at,
    invert_affine_points,
    pixel_correspondences,
    region_correspondences,
)

HEIGHT, WIDTH = 20, 28


def counting(points: Points) -> Points:
    """Those of weight 1."""
    kept = points.weight > 0
    assert points.weight[kept].eq(1).all()
    return Points(points.image[kept], points.xy[kept], points.group[kept], points.weight[kept])


def points_at(image: Tensor, xy: Tensor) -> Points:
    return Points(image, xy, image, torch.ones(len(image)))


@dataclass
class Scene:
    """Mixed images, and the region coordinates that each of their pixels shows."""

    regions: Tensor
    appearances: Tensor
    transforms: Tensor
    image_of: Tensor
    source: NDArray[np.float64]

    def correspondences(self, image: Tensor, xy: Tensor) -> Points:
        """The places that count; there is room for every appearance."""
        maps = (self.regions, self.appearances, self.transforms, self.image_of)
        room = self.image_of.shape[1]
        points, positive = pixel_correspondences(image, xy, *maps, places_per_point=room)
        assert len(points.group) == room * len(image)
        points = counting(points)
        assert positive.nonzero()[:, 0].tolist() == points.group.unique().tolist()
        return points

    def all_pixels(self) -> tuple[Tensor, Tensor]:
        n, y, x = torch.meshgrid(*map(torch.arange, self.regions.shape), indexing="ij")
        return n.reshape(-1), torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)


def paint(
    images: int, boxes: NDArray[np.float64], transforms: NDArray[np.float64], image_of: NDArray
) -> Scene:
    """Paint each appearance of each region, later regions over earlier ones, pixel by pixel.

    Args:
        boxes: [R, 4] left, top, right, bottom of the region in its own coordinates.
        transforms: [R, A, 2, 3].
        image_of: [R, A], -1 where the appearance does not exist.
    """
    regions = np.zeros((images, HEIGHT, WIDTH), int)
    appearances = np.zeros_like(regions)
    source = np.full((images, HEIGHT, WIDTH, 2), np.nan)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x, y], axis=-1).astype(float)
    for region, box in enumerate(boxes):
        for appearance, n in enumerate(image_of[region]):
            if n < 0:
                continue
            matrix = transforms[region, appearance]
            there = (pixels - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
            shown = ((there >= box[:2]) & (there <= box[2:])).all(axis=-1)
            regions[n][shown], appearances[n][shown] = region, appearance
            source[n][shown] = there[shown]
    return Scene(
        torch.from_numpy(regions),
        torch.from_numpy(appearances),
        torch.from_numpy(transforms).float(),
        torch.from_numpy(image_of).long(),
        source,
    )


def affine(scale_x: float, scale_y: float, x: float, y: float, angle: float = 0) -> NDArray:
    c, s = np.cos(angle), np.sin(angle)
    linear = np.array([[c, -s], [s, c]]) @ np.diag([scale_x, scale_y])
    return np.concatenate([linear, [[x], [y]]], axis=1)


WHOLE = [-1e9, -1e9, 1e9, 1e9]


def hand_made() -> Scene:
    """Region 1 (4x3) thrice: as it is, mirrored, twice as large and half covered by region 2."""
    transforms = np.zeros((3, 4, 2, 3))
    transforms[...] = affine(1, 1, 0, 0)
    image_of = np.full((3, 4), -1)
    image_of[0, 0], image_of[1, :3], image_of[2, 0] = 0, [0, 1, 2], 2
    transforms[1, 1] = affine(-1, 1, 20, 5)
    transforms[1, 2] = affine(2, 2, 4, 4)
    transforms[2, 0] = affine(1, 1, 8, 0)  # covers x >= 8 of image 2
    boxes = np.array([WHOLE, [2, 3, 5, 5], [0, -1e9, 1e9, 1e9]])
    return paint(3, boxes, transforms, image_of)


def places(points: Points, group: int) -> set[tuple[int, float, float]]:
    mine = points.group == group
    columns = (points.image[mine].tolist(), *points.xy[mine].T.tolist())
    return set(zip(*columns, strict=True))


def test_mirrored_scaled_and_covered_appearances() -> None:
    scene = hand_made()
    image = torch.tensor([0, 0, 1, 2, 0])
    xy = torch.tensor([[2, 3], [5, 3], [17, 8], [8, 10], [0, 0]])
    points = scene.correspondences(image, xy)
    # (2, 3): mirrored to 20 - 2 = 18, doubled to 4 + 2 * 2 = 8, which region 2 covers.
    assert places(points, 0) == {(0, 2.0, 3.0), (1, 18.0, 8.0)}
    assert places(points, 1) == {(0, 5.0, 3.0), (1, 15.0, 8.0)}
    # From the mirrored image back to the source pixel 20 - 17 = 3.
    assert places(points, 2) == {(0, 3.0, 3.0), (1, 17.0, 8.0)}
    # Region 2 and the background are seen once: no positives, so no points.
    assert places(points, 3) == set()
    assert places(points, 4) == set()


def test_an_uncovered_appearance_is_found_in_all_three_images() -> None:
    scene = hand_made()
    scene.regions[2, 10, 8], scene.appearances[2, 10, 8] = 1, 2  # take the cover away there
    points = scene.correspondences(torch.tensor([0]), torch.tensor([[2, 3]]))
    assert places(points, 0) == {(0, 2.0, 3.0), (1, 18.0, 8.0), (2, 8.0, 10.0)}


def test_where_more_is_visible_than_fits_the_last_points_lose_their_places() -> None:
    scene = hand_made()
    image, xy = torch.tensor([0, 0, 1, 0]), torch.tensor([[2, 3], [5, 3], [17, 8], [4, 4]])
    maps = (scene.regions, scene.appearances, scene.transforms, scene.image_of)
    whole = counting(pixel_correspondences(image, xy, *maps, places_per_point=4)[0])
    for places in range(len(whole.group) + 1):
        kept, positive = pixel_correspondences(image, xy, *maps, places_per_point=places / 4)
        points = counting(kept)
        assert len(kept.group) == places
        assert torch.equal(points.xy, whole.xy[: len(points.xy)])
        assert places - len(points.group) in (0, 1), "one place alone has no positive"
        assert not (torch.bincount(points.group) == 1).any()
        assert positive.all(), "which points have one does not depend on the room"


def test_the_maps_decide_and_not_the_position_in_the_region_table() -> None:
    # The released code read region ids as label // 8: right for 8 appearances only. Here are 4.
    scene = hand_made()
    offset = 5
    shifted = Scene(
        scene.regions + offset,
        scene.appearances,
        torch.cat([torch.zeros(offset, 4, 2, 3), scene.transforms]),
        torch.cat([torch.full((offset, 4), -1), scene.image_of]),
        scene.source,
    )
    before, after = (s.correspondences(*s.all_pixels()) for s in (scene, shifted))
    assert torch.equal(before.image, after.image)
    assert torch.equal(before.xy, after.xy)
    assert torch.equal(before.group, after.group)


def random_scene(seed: int) -> Scene:
    """Three images, a background in two of them, and five regions that appear anywhere."""
    random = np.random.default_rng(seed)
    count, appearances, images = 6, 5, 3
    transforms = np.zeros((count, appearances, 2, 3))
    image_of = random.integers(-1, images, (count, appearances))
    image_of[0] = -1
    image_of[0, :2] = [0, 1]
    boxes = np.concatenate([[WHOLE], np.zeros((count - 1, 4))])
    for region in range(count):
        if region:
            corner = random.uniform(0, 15, 2)
            boxes[region] = [*corner, *(corner + random.uniform(2, 14, 2))]
        centre = (boxes[region, :2] + boxes[region, 2:]) / 2 if region else np.zeros(2)
        for a in range(appearances):
            scale = random.choice([-1, 1]) / random.uniform(0.5, 4), 1 / random.uniform(0.5, 4)
            matrix = affine(*scale, 0, 0, random.uniform(-1, 1) * (a % 2))
            place = random.uniform([-3, -3], [WIDTH + 3, HEIGHT + 3])
            matrix[:, 2] = place - matrix[:, :2] @ centre
            transforms[region, a] = matrix
    return paint(images, boxes, transforms, image_of)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_every_place_shows_the_same_point_and_none_is_missed(seed: int) -> None:
    scene = random_scene(seed)
    shown = ~np.isnan(scene.source[..., 0])  # image 2 has no background: leave its holes out
    image, xy = (t[shown.reshape(-1)] for t in scene.all_pixels())
    points = scene.correspondences(image, xy)
    n, at = points.image.numpy(), points.xy.numpy()
    px = np.rint(at).astype(int)
    own = np.stack([image.numpy(), *xy.numpy().T], axis=1)[points.group]
    # 1. The same region, in another appearance or the point itself.
    region = scene.regions.numpy()
    assert (region[n, px[:, 1], px[:, 0]] == region[own[:, 0], own[:, 2], own[:, 1]]).all()
    # 2. The very same point: its source coordinates, mapped, are the place that was found.
    appearance = scene.appearances.numpy()[n, px[:, 1], px[:, 0]]
    matrix = scene.transforms.numpy()[region[n, px[:, 1], px[:, 0]], appearance].astype(float)
    source = scene.source[own[:, 0], own[:, 2], own[:, 1]]
    mapped = np.einsum("sij,sj->si", matrix[..., :2], source) + matrix[..., 2]
    np.testing.assert_allclose(mapped, at, atol=5e-3)
    # 3. Half a pixel at most lies between it and what is painted there.
    painted = scene.source[n, px[:, 1], px[:, 0]]
    gap = np.einsum("sij,sj->si", matrix[..., :2], painted - source)
    assert np.abs(gap).max(initial=0) <= 0.505
    # 4. At least two places a point, none twice.
    sizes = np.bincount(points.group.numpy(), minlength=len(image))
    assert not (sizes == 1).any()
    triples = np.stack([points.group.numpy(), n, appearance], axis=1)
    assert len(np.unique(triples, axis=0)) == len(triples)
    # 5. As many places as a search over all appearances finds.
    assert_counts_equal_brute_force(scene, image.numpy(), xy.numpy(), sizes)


def assert_counts_equal_brute_force(
    scene: Scene, image: NDArray, xy: NDArray, sizes: NDArray
) -> None:
    regions, appearances = scene.regions.numpy(), scene.appearances.numpy()
    transforms, image_of = scene.transforms.double().numpy(), scene.image_of.numpy()
    for p in range(0, len(image), 7):
        x, y = xy[p]
        region = regions[image[p], y, x]
        found, tie = 0, False
        for a, n in enumerate(image_of[region]):
            if n < 0:
                continue
            matrix = transforms[region, a]
            there = matrix[:, :2] @ scene.source[image[p], y, x] + matrix[:, 2]
            # Which of two pixels a point between them falls on is left to rounding.
            own = n == image[p] and a == appearances[image[p], y, x]
            tie |= bool((np.abs(there % 1 - 0.5) < 0.01).any()) and not own
            tx, ty = np.rint(there).astype(int)
            if 0 <= tx < WIDTH and 0 <= ty < HEIGHT:
                found += regions[n, ty, tx] == region and appearances[n, ty, tx] == a
        if not tie:
            assert sizes[p] == (found if found >= 2 else 0)


def test_no_points_give_no_correspondences() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    points = hand_made().correspondences(empty, empty.reshape(0, 2))
    assert len(points.image) == len(points.group) == 0
    assert points.xy.shape == (0, 2)
    regions = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert len(region_correspondences(empty, empty.reshape(0, 2), regions, 1).group) == 0


def test_region_positives_are_all_points_of_a_region_that_has_two() -> None:
    regions = torch.tensor([[[0, 0, 7], [3, 3, 7]], [[9, 0, 3], [9, 5, 3]]])
    image = torch.tensor([0, 0, 0, 1, 1, 1])
    xy = torch.tensor([[0, 0], [2, 0], [0, 1], [1, 0], [1, 1], [2, 1]])
    points = counting(region_correspondences(image, xy, regions, 10))
    assert points.group.tolist() == [0, 3, 0, 3]
    assert points.image.tolist() == [0, 0, 1, 1]
    assert points.xy.tolist() == [[0, 0], [0, 1], [1, 0], [2, 1]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_inverting_an_affine_map_of_points(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = random.uniform([0.2, 0.2, -50, -50, -3], [4, 4, 50, 50, 3], (20, 5))
    maps = np.stack([affine(*row) for row in drawn.tolist()])
    q = random.uniform(-50, 50, (20, 2))
    p = np.einsum("sij,sj->si", maps[..., :2], q) + maps[..., 2]
    back = invert_affine_points(torch.from_numpy(maps), torch.from_numpy(p))
    np.testing.assert_allclose(back.numpy(), q, atol=1e-9)


@pytest.mark.parametrize("size", [(5, 7), (20, 28), (1, 1), (6, 9), (2, 1)])
def test_features_under_points_equal_grid_sampling(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 6, *size, generator=generator)
    image = torch.randint(0, 3, (200,), generator=generator)
    xy = torch.rand(200, 2, generator=generator) * torch.tensor([WIDTH - 1, HEIGHT - 1])
    xy[0], xy[1] = torch.tensor([0.0, 0.0]), torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    sampled = features_at(features, points_at(image, xy), HEIGHT, WIDTH)
    grid = (xy + 0.5) / torch.tensor([WIDTH, HEIGHT]) * 2 - 1
    everywhere = F.grid_sample(
        features, grid.expand(3, 1, -1, -1), padding_mode="border", align_corners=False
    )  # [N, C, 1, S]
    expected = everywhere[image, :, 0, torch.arange(200)]
    torch.testing.assert_close(sampled, F.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)


def test_features_get_gradients_and_the_layout_does_not_matter() -> None:
    features = torch.randn(2, 4, 5, 7, requires_grad=True)
    points = points_at(torch.tensor([0, 1]), torch.tensor([[3.2, 4.1], [9.0, 11.0]]))
    plain = features_at(features, points, HEIGHT, WIDTH)
    last = features_at(
        features.contiguous(memory_format=torch.channels_last), points, HEIGHT, WIDTH
    )
    assert torch.equal(plain, last)
    plain.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_gradients_do_not_depend_on_the_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 32, 12, 16, generator=generator).requires_grad_()
    image = torch.randint(0, 2, (20_000,), generator=generator)
    xy = torch.rand(20_000, 2, generator=generator) * torch.tensor([WIDTH - 1, HEIGHT - 1])
    weights = torch.randn(20_000, 32, generator=generator)
    points, threads = points_at(image, xy), torch.get_num_threads()

    def gradient(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        (result,) = torch.autograd.grad(
            (features_at(features, points, HEIGHT, WIDTH) * weights).sum(), features
        )
        return result

    try:
        alone = gradient(1)
        assert all(torch.equal(gradient(4), alone) for _ in range(20))
    finally:
        torch.set_num_threads(threads)


def test_in_a_batch_nothing_matches_across_items() -> None:
    # The released code's region ids collide for batches above 1. Two equal items here:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (1, 2, 3, 48, 64), dtype=torch.uint8, generator=generator)
    disparity = torch.rand(1, 2, 48, 64, generator=generator)
    regions = (torch.arange(64) // 16)[None, None, None].expand(1, 2, 48, 64).int().contiguous()
    pair = Frames(*(t.repeat(2, *[1] * (t.ndim - 1)) for t in (images, disparity, regions)))
    mosaic = compose(pair, CopyPasteConfig(), [(0, 0, 0), (0, 0, 1)])
    appearances = mosaic.appearances.long()
    scene = Scene(mosaic.regions, appearances, mosaic.transforms, mosaic.image_of, np.zeros(0))
    image, xy = scene.all_pixels()
    per_item = len(mosaic.images) // 2
    points = scene.correspondences(image, xy)
    assert len(points.group) > 1000
    assert (points.image // per_item == image[points.group] // per_item).all()
    count = len(mosaic.image_of)
    groups = counting(region_correspondences(image, xy, mosaic.regions, count))
    items = groups.image // per_item
    assert not set(groups.group[items == 0].tolist()) & set(groups.group[items == 1].tolist())
    # Source and mixed pixel agree as far as the compositor's own maps go.
    assert (mosaic.image_of[:4, 0] // per_item == 0).all()
