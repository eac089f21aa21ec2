"""Segmentation with a fine-tuned network, averaged over flipped views and sliding windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cpcdr.model.finetuned import load_finetuned
from cpcdr.runtime.device import default_device, half_on_gpu, pixels_on


@dataclass
class ClassSegmenter:
    """Every pixel takes the class with the highest score; implements `Segmenter`.

    Attributes:
        window: height and width of sliding windows over larger images; 0 0 takes the whole.
        flip: average with the mirrored image.
    """

    checkpoint: Path
    window: tuple[int, int] = (0, 0)
    flip: bool = True

    def load(self) -> None:
        """Load the network on the GPU if there is one."""
        self.device = default_device()
        self.module = load_finetuned(self.checkpoint)[0].to(self.device)

    def segment(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Class ids [N, H, W] of images uint8 [N, H, W, 3]."""
        return self.scores(images).argmax(1).cpu().numpy()

    @torch.inference_mode()
    def scores(self, images: NDArray[np.uint8]) -> Tensor:
        """float32 [N, K, H, W] of images uint8 [N, H, W, 3]: probabilities summed over the flips.

        The network computes in half precision on a GPU.
        """
        pixels = pixels_on(self.device, images)
        scores = self._windowed(pixels)
        if self.flip:
            scores = scores + self._windowed(pixels.flip(-1)).flip(-1)
        return scores

    def _windowed(self, pixels: Tensor) -> Tensor:
        """Mean probabilities [N, K, H, W] over the windows that cover each pixel."""
        size = tuple(pixels.shape[-2:])
        total = torch.zeros(())
        count = torch.zeros(1, 1, *size, device=pixels.device)
        for top, left, height, width in windows(size, self.window):
            part = pixels[..., top : top + height, left : left + width]
            with half_on_gpu(self.device):
                logits = self.module.logits(part)
            probabilities = functional.interpolate(
                logits.float(), (height, width), mode="bilinear"
            ).softmax(1)
            if total.ndim == 0:
                total = torch.zeros(*probabilities.shape[:2], *size, device=pixels.device)
            total[..., top : top + height, left : left + width] += probabilities
            count[..., top : top + height, left : left + width] += 1
        return total / count


def windows(size: tuple[int, ...], window: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """(top, left, height, width) of windows that cover the image and overlap by a third.

    >>> list(windows((10, 20), (0, 0)))
    [(0, 0, 10, 20)]
    >>> [left for _, left, _, _ in windows((10, 20), (10, 12))]
    [0, 8]
    """
    height, width = (min(w, s) if w else s for w, s in zip(window, size, strict=True))
    for top in _starts(size[0], height):
        for left in _starts(size[1], width):
            yield top, left, height, width


def _starts(side: int, window: int) -> list[int]:
    step = max(1, 2 * window // 3)
    return sorted({min(start, side - window) for start in range(0, side - window + step, step)})
