"""The fine-tuned module's loss: which pixels count, on one rank and on two.

Run as a script, this file is one of two processes: ``FOLDER RANK``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
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


def worker(folder: Path, rank: int) -> None:
    """One of two processes: metrics and gradient on one image of the batch."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    network, own = module(), {k: v[rank : rank + 1] for k, v in uneven().items()}
    metrics = network(own)
    metrics["loss"].backward()
    metrics = {name: value.detach() for name, value in metrics.items()}
    torch.save((metrics, network.classifier.weight.grad), folder / f"{rank}.pt")


def uneven() -> dict[str, torch.Tensor]:
    """The second image has a quarter of the first one's labelled pixels."""
    given = batch()
    given["labels"][1, :58] = IGNORE
    return given


@pytest.mark.slow
def test_every_labelled_pixel_weighs_alike_on_two_ranks(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    network = module()
    whole = network(uneven())
    whole["loss"].backward()
    for name in ("loss", "accuracy"):
        mean = (ranks[0][0][name] + ranks[1][0][name]) / 2
        torch.testing.assert_close(mean, whole[name].detach())
    gradient = (ranks[0][1] + ranks[1][1]) / 2  # as DDP takes it
    torch.testing.assert_close(gradient, network.classifier.weight.grad)


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # Gloo's threads may abort the exit of a process whose peer has left.
