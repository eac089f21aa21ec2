"""Steps of pre-training and fine-tuning never ask the device for anything back."""

from dataclasses import replace

import pytest
import torch
from never_waits import META, never_waiting

from cpcdr.copy_paste.config import ColourConfig, CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, draw, render
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import FinetuneModule
from cpcdr.train.config import TrainConfig
from cpcdr.train.optimizer import make_optimizer
from cpcdr.train.pretrain_task import PretrainModule, draw_points

MODEL = ModelConfig(
    "resnet10", width=8, fpn_channels=32, head_channels=32, feature_dim=16, prototypes=12
)
LOSS = LossConfig(pixel_points=30, region_points=50)


def optimised(module, loss):
    optimizer = make_optimizer([{"params": list(module.parameters())}], TrainConfig())
    loss.backward()
    optimizer.step()
    used = [p for p in module.parameters() if p.requires_grad]
    assert used
    assert all(p.grad is not None for p in used)


@pytest.mark.parametrize("epsilon", [0.05, 0.015])
def test_a_step_of_pretraining(epsilon):
    """From frames on the device to the optimiser: the plan alone comes from the host."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    regions = torch.arange(96).div(12, rounding_mode="floor").int().expand(2, 2, 64, 96)
    frames = Frames(images, torch.rand(2, 2, 64, 96, generator=generator), regions.contiguous())
    keys = [(0, 0, 0), (0, 0, 1)]
    blurred = ColourConfig(blur_probability=1.0)
    plan = draw(frames, CopyPasteConfig(colour=blurred), keys)
    image, xy = draw_points((len(plan.blur), 64, 96), 2, keys, LOSS)
    frames, plan = frames.to(META), plan.to(META)
    points = {"point_image": image.to(META), "point_xy": xy.to(META)}
    with META:
        module = PretrainModule(MODEL, replace(LOSS, epsilon=epsilon))
    with never_waiting():
        mosaic = render(frames, plan)
        batch = {
            "images": mosaic.images,
            "regions": mosaic.regions.long(),
            "appearances": mosaic.appearances.long(),
            "transforms": mosaic.transforms,
            "image_of": mosaic.image_of,
            "pasted_fraction": (mosaic.appearances >= mosaic.rounds).float().mean(),
        }
        optimised(module, module(batch | points)["loss"])
        module.network.normalise_prototypes()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_of_finetuning(weighted):
    weights = torch.ones(5, device=META) if weighted else None
    with META:
        module = FinetuneModule(MODEL, 5, weights)
    images = torch.rand(2, 3, 64, 96, device=META)
    labels = torch.zeros(2, 64, 96, dtype=torch.int64, device=META)
    with never_waiting():
        metrics = module({"images": images, "labels": labels})
        optimised(module, metrics["loss"])
