"""What is evaluated: anything that turns an image into a map of cluster ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.evaluate.baselines import ColourPosition
from cpcdr.evaluate.clusters import cluster_prototypes
from cpcdr.model.segmentation import SMALLEST_SIDE, ModelConfig, SegmentationNetwork, load_network
from cpcdr.runtime.checkpoint import CONFIG
from cpcdr.runtime.config import overlay
from cpcdr.runtime.errors import InputError


class Segmenter(Protocol):
    """A picklable way to segment: an actor calls `load` once and then `segment` for each frame."""

    def load(self) -> None:
        """Get ready: load weights, choose the device."""

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ids [H, W] of an image uint8 [H, W, 3] RGB."""


@dataclass
class PrototypeSegmenter:
    """Every pixel takes the cluster of its nearest prototype.

    Attributes:
        checkpoint: a pre-training checkpoint folder.
        clusters: int64 [K] cluster of each prototype.
        trained: False takes the same network as it was before its first step.
    """

    checkpoint: Path
    clusters: NDArray[np.int64]
    trained: bool = True

    def load(self) -> None:
        """Load the network on the GPU if there is one."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = open_network(self.checkpoint, self.trained).to(self.device)

    @torch.inference_mode()
    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ids [H, W]."""
        tensor = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        nearest = self.network.assign(tensor, image.shape[:2])[0]
        return self.clusters[nearest.cpu().numpy()]


@dataclass
class ColourSegmenter:
    """The baseline that knows colour and position alone."""

    model: ColourPosition

    def load(self) -> None:
        """Nothing to load."""

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ids [H, W]."""
        return self.model.predict(image)


def open_network(checkpoint: Path, trained: bool) -> SegmentationNetwork:
    """The network of a checkpoint, or what its training started from (same sizes, same seed)."""
    network, values = load_network(checkpoint)
    if trained:
        return network
    torch.manual_seed(trained_with(checkpoint, values)[1])
    return SegmentationNetwork(overlay(ModelConfig(), values["config"]["model"], "")).eval()


def trained_with(checkpoint: Path, values: dict[str, Any]) -> tuple[tuple[int, int], int]:
    """Size (H, W) of the frames and the seed of a pre-training, from its checkpoint's config.

    Raises:
        InputError: ``config.yaml`` does not say them.
    """
    try:
        height, width = (int(side) for side in values["config"]["dataset"]["size"])
        if min(height, width) < 1:
            raise ValueError
        return (height, width), int(values["config"]["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{checkpoint / CONFIG}: does not say the size of the frames (dataset: size) and the "
            "seed of the training; give a checkpoint folder written by experiments/pretrain.py."
        ) from error


def check_size(
    size: tuple[int, int], option: str = "--size", zeros: str = "those of the training"
) -> None:
    """Refuse a size that the network cannot see anything at.

    Args:
        size: height and width; 0 0 stands for something else.
        option: the name under which it was given.
        zeros: what 0 0 stands for.

    Raises:
        InputError: a side below the largest stride of the network, unless both are 0.
    """
    if any(size) and min(size) < SMALLEST_SIDE:
        raise InputError(
            f"{option} {size[0]} {size[1]} is too small: give a height and a width of at least "
            f"{SMALLEST_SIDE} pixels, or 0 0 for {zeros}."
        )


def prototype_segmenter(
    checkpoint: Path, clusters: int, trained: bool, method: str, seed: int
) -> PrototypeSegmenter:
    """Cluster the prototypes of a network and segment by them."""
    prototypes = open_network(checkpoint, trained).prototypes.detach().numpy()
    assigned = cluster_prototypes(prototypes, clusters, method=method, seed=seed)
    return PrototypeSegmenter(checkpoint, assigned, trained)
