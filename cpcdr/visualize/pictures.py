"""Pictures as uint8 [H, W, 3] RGB arrays. Only `save_png` writes files; plots are in
`cpcdr.visualize.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.errors import InputError, no_room

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Image = NDArray[np.uint8]
"""uint8 [H, W, 3] RGB."""

_GAP = 6  # pixels between the cells of a sheet
_TEXT = (35, 35, 35)
_OPACITY = 0.6  # of region colours over their image


def save_png(path: Path, image: Image) -> None:
    """Write uint8 [H, W, 3] RGB as PNG, whole or not at all, and create its folder.

    Raises:
        InputError: the file cannot be written.
    """
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    try:
        write_atomic(path, encoded.tobytes(), durable=False)
    except OSError as error:
        if no_room(error):
            raise
        raise InputError(f"{path} cannot be written ({error}): choose another folder.") from error


def colour_disparity(disparity: NDArray[np.floating]) -> Image:
    """Magma colours, bright is near; invalid pixels (0 or not finite) are black.

    Args:
        disparity: float [H, W]; scaled between its 1st and 99th percentile, so that outliers do
            not darken the rest.
    """
    valid = np.isfinite(disparity) & (disparity > 0)
    image = np.zeros((*disparity.shape, 3), np.uint8)
    if valid.any():
        low, high = np.percentile(disparity[valid], [1, 99])
        level = np.clip((disparity[valid] - low) / max(high - low, 1e-9), 0, 1)
        # The first quarter of magma is almost black, which here means invalid.
        image[valid] = _magma()[np.rint(48 + 207 * level).astype(int)]
    return image


def colour_regions(regions: NDArray[np.integer], image: Image | None = None) -> Image:
    """Distinct colours, always the same for the same id, with thin white borders.

    Args:
        regions: int [H, W], ids from 0.
        image: blended under the colours where given.
    """
    colours: Image = region_colours(int(regions.max()) + 1)[regions]
    if image is not None:
        colours = _mixed(colours, image, _OPACITY)
    border = np.zeros(regions.shape, bool)
    border[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    border[:-1] |= regions[:-1] != regions[1:]
    white = _mixed(colours, np.full_like(colours, 255), 0.25)
    return np.where(border[..., None], white, colours)


def colour_mask(mask: NDArray[np.bool_], image: Image) -> Image:
    """An image with the pixels of a bool mask [H, W] tinted green."""
    tinted = _mixed(np.full_like(image, (0, 200, 80)), image, _OPACITY)
    return np.where(mask[..., None], tinted, image)


def region_colours(count: int) -> NDArray[np.uint8]:
    """uint8 [count, 3] RGB: hues a golden angle apart, so that near ids get far colours."""
    ids = np.arange(count)
    hue = (ids * 137.50776 + 205) % 360
    saturation = np.array([0.65, 0.85, 0.5])[ids % 3]
    value = np.array([0.95, 0.72, 0.85, 0.6])[ids % 4]
    hsv = np.stack([hue, saturation, value], 1).astype(np.float32)[None]
    return np.rint(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]).astype(np.uint8)


def colour_labels(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image:
    """Palette colours of a label map; 255 is black.

    Args:
        labels: uint8 [H, W], 0..K-1 or 255.
        palette: uint8 [K, 3] RGB.

    Raises:
        InputError: a label has no colour.
    """
    labelled = labels[labels != IGNORE]
    if labelled.size and labelled.max() >= len(palette):
        raise InputError(
            f"Label {labelled.max()} has no colour among {len(palette)}: "
            "use the label map's protocol."
        )
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = 0
    return table[labels]


def colour_features(features: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The three principal components of features [N, C, H, W] as RGB, one PCA for all images.

    Equal colours in two images mean equal features.

    Returns:
        uint8 [N, H, W, 3]; each component runs from its 1st to its 99th percentile.

    Raises:
        InputError: a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise InputError(
            "A feature is not finite: the network diverged, use an earlier checkpoint."
        )
    count, channels, height, width = features.shape
    rows = features.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    rows -= rows.mean(0)
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    components = np.zeros((len(rows), 3))
    components[:, : axes.shape[1]] = rows @ axes
    low, high = np.percentile(components, [1, 99], axis=0)
    level = np.clip((components - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.rint(255 * level).astype(np.uint8).reshape(count, height, width, 3)


def contact_sheet(
    rows: Sequence[Sequence[Image]],
    titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    height: int = 180,
) -> Image:
    """Images in a grid on white.

    Args:
        rows: images of any sizes; rows may differ in length. Each image is scaled to ``height``.
        titles: above the columns, as many as the longest row has images, or none.
        row_titles: above each row, as many as there are rows, or none.
    """
    cells = [[_scaled(image, height) for image in row] for row in rows]
    columns = max(map(len, cells))
    widths = [max(r[c].shape[1] for r in cells if c < len(r)) for c in range(columns)]
    lefts = _GAP + np.concatenate([[0], np.cumsum(np.array(widths) + _GAP)])
    band, strip = (26 if titles else _GAP), (24 if row_titles else 0)
    step = height + strip + _GAP
    sheet = np.full((band + step * len(cells), int(lefts[-1]), 3), 255, np.uint8)
    texts = []
    for c, title in enumerate(titles):
        texts.append((int(lefts[c]) + 1, 5, _fitting(title, widths[c])))
    for r, row in enumerate(cells):
        top = band + r * step
        if row_titles:
            texts.append((_GAP + 1, top + 3, _fitting(row_titles[r], int(lefts[-1]) - 2 * _GAP)))
        for c, cell in enumerate(row):
            sheet[top + strip :, lefts[c] :][:height, : cell.shape[1]] = cell
    return _write(sheet, texts)


def legend(classes: Sequence[str], palette: NDArray[np.uint8], width: int = 720) -> Image:
    """Colour squares with class names, in as many columns as fit.

    Args:
        classes: K names.
        palette: uint8 [K, 3] RGB.
    """
    cell = int(max(_font().getlength(name) for name in classes)) + 40
    columns = min(max((width - _GAP) // cell, 1), len(classes))
    lines = -(-len(classes) // columns)
    image = np.full((lines * 24 + 2 * _GAP, max(width, cell + _GAP), 3), 255, np.uint8)
    texts = []
    for k, name in enumerate(classes):
        left, top = _GAP + k % columns * cell, _GAP + k // columns * 24
        image[top + 3 : top + 21, left : left + 24] = palette[k]
        texts.append((left + 31, top + 3, name))
    return _write(image, texts)


@cache
def _magma() -> NDArray[np.uint8]:
    from matplotlib import colormaps

    return colormaps["magma"](np.arange(256), bytes=True)[:, :3]


@cache
def _font() -> FreeTypeFont:
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 13)


def _fitting(text: str, width: int) -> str:
    """The text, truncated with an ellipsis to ``width`` pixels."""
    while len(text) > 1 and _font().getlength(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


def _write(image: Image, texts: list[tuple[int, int, str]]) -> Image:
    """Write texts at (left, top)."""
    from PIL import Image as PilImage
    from PIL import ImageDraw

    canvas = PilImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for left, top, text in texts:
        draw.text((left, top), text, fill=_TEXT, font=_font())
    return np.asarray(canvas).copy()


def _scaled(image: Image, height: int) -> Image:
    width = max(round(image.shape[1] * height / image.shape[0]), 1)
    shrinks = height < image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=method).astype(np.uint8)


def _mixed(over: Image, under: Image, opacity: float) -> Image:
    return cv2.addWeighted(over, opacity, under, 1 - opacity, 0).astype(np.uint8)


def as_pictures(images: torch.Tensor) -> list[np.ndarray]:
    """float [N, 3, H, W] in [0, 1] to uint8 [H, W, 3] each."""
    array = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return list(array.cpu().numpy())
