"""The baseline without learning: k-means on colour and position."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase

_SAMPLES = 50_000  # pixels in total; more hardly move the centres and cost seconds


@dataclass(frozen=True, eq=False)
class ColourPosition:
    """Fitted k-means on (L*, a*, b*, x, y), each in units of its standard deviation.

    Attributes:
        scale: float32 [5], one over the standard deviation of each feature.
        centres: float32 [K, 5] in scaled units.
    """

    scale: NDArray[np.float32]
    centres: NDArray[np.float32]

    def load(self) -> None:
        """Nothing to load."""

    def segment(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The cluster of each pixel: uint8 [N, H, W, 3] RGB -> int64 [N, H, W] of 0..K-1."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        features = colour_position(image) * self.scale
        # |f - c|^2 without |f|^2, which does not affect the argmin: one matrix product.
        distance = (self.centres**2).sum(1) - 2 * (features @ self.centres.T)
        return distance.argmin(-1)


def colour_position(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of each pixel: uint8 [H, W, 3] RGB -> float32 [H, W, 5] = L*, a*, b*, x, y.

    x and y are in 0..1 of the image's width and height.
    """
    height, width = image.shape[:2]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.dstack([lab, (x + 0.5) / width, (y + 0.5) / height]).astype(np.float32)


@phase("clustering colours and positions")
def fit_colour_position(
    images: Sequence[NDArray[np.uint8]], num_clusters: int, seed: int = 0
) -> ColourPosition:
    """Fit the baseline on equally many random pixels of each image, uint8 [H, W, 3] RGB.

    Raises:
        InputError: no image, or fewer pixels than clusters.
    """
    from sklearn.cluster import KMeans  # slow to import, not needed to segment

    if not images:
        raise InputError("The colour-position baseline needs at least one frame to fit on.")
    random = np.random.default_rng(seed)
    per_image = max(_SAMPLES // len(images), 1)
    samples = []
    for image in images:
        pixels = colour_position(image).reshape(-1, 5)
        count = min(per_image, len(pixels))
        samples.append(pixels[random.choice(len(pixels), count, replace=False)])
    sample = np.concatenate(samples)
    if len(sample) < num_clusters:
        raise InputError(f"{len(sample)} pixels cannot form {num_clusters} clusters: add frames.")
    scale = 1 / np.maximum(sample.std(0), 1e-6)  # a grey clip has no variance in a* and b*
    kmeans = KMeans(num_clusters, n_init=3, random_state=seed).fit(sample * scale)
    return ColourPosition(scale.astype(np.float32), kmeans.cluster_centers_.astype(np.float32))
