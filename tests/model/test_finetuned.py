"""The fine-tuned module's loss: which pixels count."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cpcdr.frames import IGNORE
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import FinetuneModule

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 8)


def module(weights: torch.Tensor | None = None) -> FinetuneModule:
    torch.manual_seed(0)
    return FinetuneModule(MODEL, 5, weights).eval()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (2, 64, 96), generator=generator)
    labels[:, :40] = IGNORE
    return {"images": torch.rand(2, 3, 64, 96, generator=generator), "labels": labels}


def test_pixels_without_a_class_do_not_count() -> None:
    given = batch()
    for weights in (None, torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])):
        network = module(weights)
        metrics = network(given)
        scores = F.interpolate(network.logits(given["images"]), (64, 96), mode="bilinear")
        known = given["labels"] != IGNORE
        seen, labels = scores.permute(0, 2, 3, 1)[known], given["labels"][known]
        torch.testing.assert_close(metrics["loss"], F.cross_entropy(seen, labels, weights))
        torch.testing.assert_close(
            metrics["accuracy"], (seen.argmax(dim=1) == labels).float().mean()
        )


def test_class_0_counts_and_a_crop_without_labels_costs_nothing() -> None:
    given = batch()
    network = module()
    given["labels"] = torch.where(given["labels"] == IGNORE, IGNORE, 0)
    assert network(given)["loss"] > 0.1
    given["labels"][:] = IGNORE
    assert network(given)["loss"] == 0 and network(given)["accuracy"] == 0
