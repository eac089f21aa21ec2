"""Colour augmentation as linear maps: jitter and grey are one 3×4 matrix, blur is one sigma.

Keeping colour linear lets the compositor apply a sprite's and its image's augmentation in a single
multiply-add per visible pixel (deferred shading). The price, against torchvision's ColorJitter: the
four jitters come in a fixed order (brightness, contrast, saturation, hue), hue rotates in YIQ
space instead of HSV, and values are clamped to [0, 1] once, at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.copy_paste.config import ColourConfig

COLOUR_DRAWS = 8
"""Uniform random numbers per colour augmentation."""

LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class Colours:
    """Drawn colour augmentations.

    Attributes:
        matrix: float64 [S, 3, 4]: ``matrix[s, :, :3] @ rgb + matrix[s, :, 3]``, rgb in [0, 1].
        sigma: float64 [S] blur in pixels, 0 = none.
    """

    matrix: NDArray[np.float64]
    sigma: NDArray[np.float64]


def colours(
    uniform: NDArray[np.float64], grey: NDArray[np.float64], config: ColourConfig, unit: float
) -> Colours:
    """Map uniform random numbers to colour augmentations.

    Args:
        uniform: [S, COLOUR_DRAWS] in [0, 1).
        grey: [S] mean luminance in [0, 1] about which contrast changes (that of the source frame).
        unit: pixels per configured pixel (frame height / 384).
    """
    spread = np.asarray(config.jitter)
    jittered = uniform[:, 0] < config.jitter_probability
    change = np.where(jittered[:, None], (2.0 * uniform[:, 1:5] - 1.0) * spread, 0.0)
    greyed = uniform[:, 5] < config.grey_probability
    matrix = colour_matrix(change, grey)
    matrix[greyed] = LUMA @ matrix[greyed][:, None]  # luminance in all three channels
    low, high = config.blur_sigma
    sigma = (low + (high - low) * uniform[:, 7]) * unit
    return Colours(matrix, np.where(uniform[:, 6] < config.blur_probability, sigma, 0.0))


def colour_matrix(change: NDArray[np.float64], grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness, then contrast about ``grey``, saturation about luminance, hue: [S, 3, 4].

    Args:
        change: [S, 4] relative change of brightness, contrast, saturation (0 = none), and hue shift
            as a fraction of the colour circle.
        grey: [S] luminance that contrast keeps.
    """
    brightness, contrast, saturation = (1.0 + change[:, :3]).T
    angle = 2.0 * np.pi * change[:, 3]
    keep = saturation[:, None, None] * np.eye(3)
    desaturate = (1.0 - saturation)[:, None, None] * LUMA
    rotation = np.zeros((len(change), 3, 3))
    rotation[:, 0, 0] = 1.0
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 2, 1] = np.sin(angle)
    rotation[:, 1, 2] = -rotation[:, 2, 1]
    hue = _YIQ_TO_RGB @ rotation @ _RGB_TO_YIQ
    matrix = np.empty((len(change), 3, 4))
    matrix[:, :, :3] = (brightness * contrast)[:, None, None] * (hue @ (keep + desaturate))
    # Saturation and hue preserve grey, so the offset of contrast passes through unchanged.
    matrix[:, :, 3] = ((1.0 - contrast) * brightness * grey)[:, None]
    return matrix


def chained(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colour matrices that apply ``first`` and then ``second``: [S, 3, 4] each."""
    combined = second[:, :, :3] @ first
    combined[:, :, 3] += second[:, :, 3]
    return combined


BLURS = 0.15
"""Sigma in pixels below which the weight of the neighbours is under 1e-9: no blur."""


def blur_images(images: Tensor, sigma: NDArray[np.float64]) -> None:
    """Gaussian blur in place, borders replicated.

    Args:
        images: float32 [N, 3, H, W].
        sigma: [N] in pixels, on the host, so that images without blur cost nothing.
    """
    for n in np.flatnonzero(sigma > BLURS):
        images[n] = smooth(images[n][None], gaussian(sigma[n]).tolist())[0]


def gaussian(sigma: float) -> NDArray[np.float64]:
    """Weights of a convolution, out to three sigma; their sum is 1."""
    radius = int(np.ceil(3.0 * sigma))
    weight = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weight / weight.sum()


def smooth(images: Tensor, weights: Sequence[float]) -> Tensor:
    """Separable convolution with an odd number of weights, borders replicated.

    A sum of shifted images: on a CPU many times faster than ``conv2d``, on a GPU never in TF32.

    Args:
        images: float32 [N, C, H, W].
        weights: of the kernel along one axis.
    """
    radius = len(weights) // 2
    for axis, pad in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded = F.pad(images, pad, mode="replicate")
        side = images.shape[axis]
        images = padded.narrow(axis, 0, side) * weights[0]
        for shift, weight in enumerate(weights[1:], 1):
            images.add_(padded.narrow(axis, shift, side), alpha=weight)
    return images
