"""The layout of an item: its random draws as a table of sprites and as transforms of regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.copy_paste.appearance import chained
from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.shading import LEVELS, level_sizes
from cpcdr.copy_paste.sprites import REFERENCE_HEIGHT, Pastes, draw_pastes
from cpcdr.copy_paste.views import Views, draw_views
from cpcdr.copy_paste.zbuffer import Sprites, tile_grid


@dataclass(frozen=True)
class Layout:
    """Everything drawn for one item of M frames, R regions and N mixed images.

    Attributes:
        boxes: int32 [R, 4] of its regions, inclusive.
        frame_of: int64 [R] frame of each region, 0..M-1.
        views: of its N mixed images.
        pastes: in the order of pasting.
    """

    boxes: NDArray[np.int32]
    frame_of: NDArray[np.int64]
    frames: int
    views: Views
    pastes: Pastes

    @property
    def paste_affine(self) -> NDArray[np.float64]:
        """[S, 2, 2] from source frame to mixed image: placement, then view."""
        view, paste = self.views.affine[self.pastes.image], self.pastes.affine
        return np.stack(
            [view[..., 0] * paste[..., 0], view[..., 0] * paste[..., 1] + view[..., 1]], -1
        )


def draw_layout(
    key: tuple[int, int, int],
    boxes: NDArray[np.int32],
    counts: NDArray[np.int64],
    grey: NDArray[np.float64],
    size: tuple[int, int],
    config: CopyPasteConfig,
) -> Layout:
    """Draw one item from its own counter-based generator.

    Args:
        key: (seed, epoch, item).
        boxes: int32 [R, 4] of the item's regions, frame after frame.
        counts: [M] regions of each frame.
        grey: [M] mean luminance of each frame, in [0, 1].
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    frames = len(counts)
    frame_of = np.repeat(np.arange(frames), counts)
    unit = size[0] / REFERENCE_HEIGHT
    views = draw_views(random, np.tile(grey, len(config.pastes)), size, config.view, unit)
    pastes = draw_pastes(random, boxes, grey[frame_of], frames, size, config)
    return Layout(boxes, frame_of, frames, views, pastes)


def build_sprites(
    layouts: Sequence[Layout], offsets: Sequence[int], size: tuple[int, int]
) -> Sprites:
    """The sprite table of a batch, on the CPU, without sprites outside their image.

    Args:
        layouts: of each item; all with the same M and N.
        offsets: first batch-wide region id of each frame.
    """
    parts = [
        _rows(layout, size, item, offsets[item * layout.frames])
        for item, layout in enumerate(layouts)
    ]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    slope, shift = rows["affine"][..., 0], rows["affine"][..., 1]
    to_source = np.stack(
        [1.0 / slope, 0.5 - shift / slope], -1
    )  # + 0.5: floor rounds to the nearest
    level = np.clip(np.rint(np.log2(rows["footprint"])), 0, LEVELS - 1).astype(np.int64)
    to_texel = to_source / 2.0 ** level[:, None, None] - [0.0, 0.5]
    sizes = np.array(level_sizes(size))
    areas = sizes.prod(1)
    frames = len(layouts) * layouts[0].frames
    starts = np.concatenate([[0], np.cumsum(areas[:-1] * frames)])
    texel = starts[level] + rows["frame"] * areas[level]
    images = len(layouts) * len(layouts[0].views.affine)
    box = _tensor(rows["box"], np.int32)
    columns, tile_rows = tile_grid(box)
    return Sprites(
        first=torch.from_numpy(np.searchsorted(rows["image"], np.arange(images + 1))),
        image=_tensor(rows["image"], np.int32),
        frame=_tensor(rows["frame"], np.int32),
        region=_tensor(rows["region"], np.int32),
        appearance=_tensor(rows["appearance"], np.uint8),
        box=box,
        to_source=_tensor(to_source.reshape(-1, 4), np.float32),
        depth_scale=_tensor(rows["depth_scale"], np.float32),
        to_texel=_tensor(to_texel.reshape(-1, 4), np.float32),
        texture=_tensor(np.stack([texel, sizes[level, 1], sizes[level, 0]], -1), np.int32),
        colour=_tensor(rows["colour"], np.float32),
        tiles=int((columns * tile_rows).sum()),
    )


def _tensor(values: NDArray, dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype))


def _rows(
    layout: Layout, size: tuple[int, int], item: int, first_region: int
) -> dict[str, NDArray]:
    """Rows of one item's visible sprites, sorted by image, each image's base first."""
    views, pastes = layout.views, layout.pastes
    base = np.arange(len(views.affine))
    ones = np.ones(len(base))
    image = np.concatenate([base, pastes.image])
    affine = np.concatenate([views.affine, layout.paste_affine])
    whole = np.tile(np.array([0, 0, size[1] - 1, size[0] - 1]), (len(base), 1))
    box = _covered(np.concatenate([whole, layout.boxes[pastes.region]]), affine, size)
    # A tent filter over texels t source pixels wide blurs like a Gaussian of sigma t / 2.
    blur = np.concatenate([ones, 2.0 * pastes.colours.sigma / pastes.scale])
    colour = chained(views.colours.matrix[pastes.image], pastes.colours.matrix)
    rows = {
        "image": image + item * len(base),
        "frame": np.concatenate([base % layout.frames, layout.frame_of[pastes.region]])
        + item * layout.frames,
        "region": np.concatenate([np.full(len(base), -1), pastes.region + first_region]),
        "appearance": np.concatenate([base // layout.frames, pastes.appearance]),
        "box": box,
        "affine": affine,
        "depth_scale": np.concatenate([ones, pastes.scale]),
        "footprint": np.maximum(1.0 / np.abs(affine[:, 0, 0]), blur),
        "colour": np.concatenate([views.colours.matrix, colour]) / [255.0, 255.0, 255.0, 1.0],
    }
    shown = np.flatnonzero((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]))
    order = shown[np.argsort(image[shown], kind="stable")]
    return {name: values[order] for name, values in rows.items()}


def _covered(
    boxes: NDArray[np.integer], affine: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Mixed pixels whose centres a source box covers: left, top, right, bottom, ends exclusive."""
    corners = np.stack([boxes[:, :2] - 0.5, boxes[:, 2:] + 0.5])  # [2, S, xy]
    mapped = np.sort(affine[..., 0] * corners + affine[..., 1], axis=0)
    limits = np.clip(np.ceil(mapped), 0, [size[1], size[0]]).astype(np.int64)
    return np.concatenate([limits[0], limits[1]], -1)


def transforms(
    layouts: Sequence[Layout], appearances: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """`Mosaic.transforms`, `Mosaic.image_of` and `Mosaic.frame_of` of a batch."""
    parts = [_transforms(layout, item, appearances) for item, layout in enumerate(layouts)]
    matrix, image_of, frame_of = (np.concatenate(values) for values in zip(*parts, strict=True))
    return matrix, image_of, frame_of


def _transforms(
    layout: Layout, item: int, appearances: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    images, regions = len(layout.views.affine), len(layout.frame_of)
    affine = np.zeros((regions, appearances, 2, 2))
    image_of = np.full((regions, appearances), -1)
    for original in range(images // layout.frames):
        image_of[:, original] = original * layout.frames + layout.frame_of
        affine[:, original] = layout.views.affine[image_of[:, original]]
    pastes = layout.pastes
    image_of[pastes.region, pastes.appearance] = pastes.image
    affine[pastes.region, pastes.appearance] = layout.paste_affine
    matrix = np.zeros((regions, appearances, 2, 3), np.float32)
    matrix[:, :, [0, 1], [0, 1]] = affine[..., 0]
    matrix[..., 2] = affine[..., 1]
    image_of[image_of >= 0] += item * images
    return matrix, image_of, layout.frame_of + item * layout.frames
