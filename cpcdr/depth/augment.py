"""Colour jitter as one seeded 3×4 matrix per triplet, applied in one pass on any device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
_RGB_TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def colour_matrices(rng: np.random.Generator, count: int, probability: float) -> Tensor:
    """Random brightness, contrast, saturation (each ±20 %) and hue (±10 % of the circle).

    Contrast pivots about mid-grey and hue rotates about the grey axis in YIQ: all are linear.

    Returns:
        float32 [count, 3, 4] on RGB in [0, 1]; the identity with probability 1 - ``probability``.
    """
    matrices = np.zeros((count, 3, 4), np.float32)
    for matrix in matrices:
        # Drawn even where unused: keeps the random stream aligned.
        draws = rng.uniform(-1, 1, 4)
        matrix[:] = _matrix(draws) if rng.random() < probability else np.eye(3, 4)
    return torch.from_numpy(matrices)


def _matrix(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    brightness, contrast, saturation = 1 + 0.2 * draws[:3]
    angle = 0.2 * np.pi * draws[3]
    rotation = np.eye(3)
    rotation[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    hue = np.linalg.inv(_RGB_TO_YIQ) @ rotation @ _RGB_TO_YIQ
    grey = np.ones((3, 1)) * LUMA
    saturate = saturation * np.eye(3) + (1 - saturation) * grey
    linear = contrast * brightness * saturate @ hue
    return np.concatenate([linear, np.full((3, 1), (1 - contrast) / 2)], axis=1)


def apply_colour(matrices: Tensor, images: Tensor) -> Tensor:
    """Images [B, M, 3, H, W] in [0, 1] through matrices [B, 3, 4], clipped to [0, 1]."""
    coloured = torch.einsum("bij,bmjhw->bmihw", matrices[..., :3], images)
    return (coloured + matrices[:, None, :, 3, None, None]).clamp(0, 1)


def flip_horizontally(images: Tensor, intrinsics: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the flipped triplets and their principal points.

    Args:
        images: [B, M, 3, H, W].
        intrinsics: [B, 4].
        flipped: [B] bool.
    """
    mirrored = torch.where(flipped[:, None, None, None, None], images.flip(-1), images)
    fx, fy, cx, cy = intrinsics.unbind(-1)
    cx = torch.where(flipped, images.shape[-1] - 1 - cx, cx)
    return mirrored, torch.stack([fx, fy, cx, cy], dim=-1)
