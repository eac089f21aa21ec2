"""The final view of a mixed image: zoom, crop, flip and colour, drawn before rendering.

A view is an axis-aligned affine map of the canvas, so sprites are rendered directly into it: pixels
are resampled once, and nothing outside the crop is rendered.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpcdr.copy_paste.appearance import COLOUR_DRAWS, Colours, colours
from cpcdr.copy_paste.config import ViewConfig


@dataclass(frozen=True)
class Views:
    """Views of N mixed images.

    Attributes:
        affine: float64 [N, 2, 2]; axis x then y; ``view = affine[n, axis, 0] * canvas +
            affine[n, axis, 1]``, in pixels with pixel centres at integers.
        colours: matrices [N, 3, 4] and blur [N].
    """

    affine: NDArray[np.float64]
    colours: Colours


def draw_views(
    random: np.random.Generator,
    grey: NDArray[np.float64],
    size: tuple[int, int],
    config: ViewConfig,
    unit: float,
) -> Views:
    """Draw the views of one item's mixed images.

    Args:
        grey: [N] mean luminance of each image's base frame, in [0, 1].
        unit: pixels per configured pixel (H / 384).
    """
    uniform = random.random((len(grey), 4 + COLOUR_DRAWS))
    low, high = config.zoom
    zoom = low + (high - low) * uniform[:, 0]
    affine = np.empty((len(grey), 2, 2))
    for axis, extent in enumerate((size[1], size[0])):
        crop = (zoom - 1.0) * extent * uniform[:, 1 + axis]
        affine[:, axis, 0] = zoom
        affine[:, axis, 1] = 0.5 * zoom - crop - 0.5  # pixel centres lie half a pixel off the edges
    mirrored = uniform[:, 3] < config.flip
    affine[mirrored, 0] *= -1.0
    affine[mirrored, 0, 1] += size[1] - 1
    return Views(affine, colours(uniform[:, 4:], grey, config.colour, unit))
