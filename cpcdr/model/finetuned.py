"""A network with named classes: dense features and a linear classifier on them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.frames.frame import IGNORE
from cpcdr.frames.protocols import get_protocol
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.checkpoint import load_module, read_checkpoint
from cpcdr.runtime.config import overlay
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.ranks import sum_over_ranks, world_size


class FinetuneModule(nn.Module):
    """The network's dense features with a linear classifier on them."""

    def __init__(self, model: ModelConfig, classes: int, weights: Tensor | None = None) -> None:
        super().__init__()
        self.network = SegmentationNetwork(model)
        # The projector and the prototypes belong to pre-training.
        self.network.projector.requires_grad_(False)
        self.network.prototypes.requires_grad_(False)
        self.classifier = nn.Conv2d(model.head_channels, classes, 1)
        self.register_buffer("class_weights", weights, persistent=False)

    def logits(self, images: Tensor) -> Tensor:
        """Class scores [N, K, ceil(H/4), ceil(W/4)] of images [N, 3, H, W] in [0, 1]."""
        return self.classifier(self.network.embed(images))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` (cross-entropy) and ``accuracy`` of ``images`` against ``labels`` [N, H, W]."""
        labels = batch["labels"]
        scores = functional.interpolate(
            self.logits(batch["images"]).float(), labels.shape[-2:], mode="bilinear"
        )
        weights = self.class_weights
        assert weights is None or isinstance(weights, Tensor)
        loss = functional.cross_entropy(
            scores, labels, weights, ignore_index=IGNORE, reduction="sum"
        )
        labelled = labels != IGNORE
        norm = labelled.sum()
        if weights is not None:  # selecting the labelled would wait for a GPU
            norm = (weights[labels.where(labelled, 0)] * labelled).sum()
        right, seen = ((scores.argmax(1) == labels) & labelled).sum(), labelled.sum()
        if (ranks := world_size()) > 1:
            # Divided by the mean over ranks, so that DDP's mean weighs every labelled pixel alike.
            norm, seen = sum_over_ranks(torch.stack([norm, seen]).float()) / ranks
            return {"loss": loss / norm.clamp(min=1e-6), "accuracy": right / seen.clamp(min=1e-6)}
        return {"loss": loss / norm.clamp(min=1e-6), "accuracy": right / seen.clamp(min=1)}


def load_finetuned(folder: Path) -> tuple[FinetuneModule, dict[str, Any]]:
    """The module of a fine-tuned or probed network in evaluation mode, and its checkpoint's config.

    Raises:
        InputError: files are missing or damaged, or the checkpoint is of another network.
    """
    values, weights = read_checkpoint(folder, "finetune", "probe")
    try:
        config = overlay(ModelConfig(), values["config"]["model"], f"{folder / 'config.yaml'}")
        classes = len(get_protocol(values["config"]["protocol"]).classes)
        module = load_module(lambda: FinetuneModule(config, classes), weights)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{folder}: its weights do not fit its config.yaml; give a checkpoint folder written "
            "by cpcdr finetune."
        ) from error
    return module.eval(), values
