"""Statistics of batch normalisation, re-estimated on images that a network will see in use."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cpcdr.model.segmentation import SegmentationNetwork


@contextmanager
def without_statistics(network: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are, also in training."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@torch.no_grad()
def estimate_statistics(network: SegmentationNetwork, batches: Iterable[Tensor]) -> None:
    """Set running means and variances to the mean over batches of images [N, 3, H, W] in [0, 1].

    Layers in evaluation mode, which are those that are frozen, keep theirs.
    """
    training = network.training
    network.train()
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    for images in batches:
        network(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(training)
