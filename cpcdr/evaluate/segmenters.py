"""Segmenters: anything that maps an image to cluster ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.evaluate.clusters import cluster_prototypes
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.model.weights import find_start, load_backbone
from cpcdr.runtime.checkpoint import CONFIG
from cpcdr.runtime.device import default_device
from cpcdr.runtime.errors import InputError


class Segmenter(Protocol):
    """A picklable segmenter: an actor calls `load` once, then `segment` for some frames."""

    def load(self) -> None:
        """Load weights and choose the device."""

    def segment(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ids [N, H, W] of images uint8 [N, H, W, 3] RGB."""


@dataclass
class PrototypeSegmenter:
    """Every pixel takes the cluster of its nearest prototype.

    Attributes:
        clusters: int64 [K] cluster of each prototype.
        number: of clusters, or classes, some of which may have no prototype.
        trained: False takes the network before its first training step.
    """

    checkpoint: Path
    clusters: NDArray[np.int64]
    number: int
    trained: bool = True

    def load(self) -> None:
        """Load the network on the GPU if there is one."""
        self.device = default_device()
        self.network = open_network(self.checkpoint, self.trained).to(self.device)

    def segment(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ids [N, H, W]."""
        return self.clusters[self.network.nearest_of(images)]

    def scores(self, images: NDArray[np.uint8]) -> Tensor:
        """float32 [N, G, H, W]: `segment` takes the cluster whose score is highest."""
        return self.network.cluster_scores(images, self.clusters, self.number)


def open_network(checkpoint: Path, trained: bool) -> SegmentationNetwork:
    """The network of a checkpoint, or what its training began with (same sizes, same seed).

    Raises:
        InputError: they cannot be read; of a pretrained backbone, its weights are gone.
    """
    network, values = load_network(checkpoint)
    if trained:
        return network
    torch.manual_seed(trained_with(checkpoint, values)[1])
    untrained = SegmentationNetwork(network.config)
    if start := find_start(network.config.init, network.config.backbone):
        load_backbone(untrained, start)
    return untrained.eval()


def trained_with(checkpoint: Path, values: dict[str, Any]) -> tuple[tuple[int, int], int]:
    """Size (H, W) of the frames and the seed of a pre-training, from its checkpoint's config.

    Raises:
        InputError: ``config.yaml`` lacks them.
    """
    try:
        height, width = (int(side) for side in values["config"]["dataset"]["size"])
        if min(height, width) < 1:
            raise ValueError
        return (height, width), int(values["config"]["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{checkpoint / CONFIG}: lacks the frame size (dataset: size) or the seed of the "
            "training; give a checkpoint folder written by pretrain."
        ) from error


def prototype_segmenter(
    checkpoint: Path, clusters: int, trained: bool, method: str, seed: int
) -> PrototypeSegmenter:
    """A segmenter by the clustered prototypes of a network."""
    prototypes = open_network(checkpoint, trained).prototypes.detach().numpy()
    assigned = cluster_prototypes(prototypes, clusters, method=method, seed=seed)
    return PrototypeSegmenter(checkpoint, assigned, clusters, trained)
