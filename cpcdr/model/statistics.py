"""Statistics of batch normalisation, re-estimated on images that a network will see in use."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cpcdr.model.segmentation import SegmentationNetwork


@contextmanager
def with_momentum(network: nn.Module, value: float | None) -> Iterator[list[_BatchNorm]]:
    """Another momentum of running statistics for a while: 0 keeps them, None takes the mean.

    Yields:
        the layers of batch normalisation in training mode, which excludes those that are frozen.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = value
    try:
        yield layers
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
    with with_momentum(network, None) as layers:
        for layer in layers:
            layer.reset_running_stats()
        for images in batches:
            network(images)
    network.train(training)
