"""A training step of depth never synchronises with the GPU and creates no tensor on the host."""

from dataclasses import replace

import pytest
import torch
from never_waits import META, never_waiting

from cpcdr.depth.config import SMALL, TINY
from cpcdr.depth.model import DepthModel
from cpcdr.depth.street_net import StreetNet


def step(intrinsics, start):
    base = TINY if start == "scratch" else SMALL
    config = replace(base, channels=8, height=64, width=96, batch_size=2, intrinsics=intrinsics)
    with META:
        model = DepthModel(config)
        if start == "street":
            model.start_from(StreetNet())
    images = torch.rand(2, 3, 3, 64, 96, device=META)
    batch = {
        "images": images,
        "jittered": images,
        "intrinsics": torch.rand(2, 4, device=META),
        "flipped": torch.zeros(2, dtype=torch.bool, device=META),
        "still": torch.zeros(2, 64, 96, dtype=torch.bool, device=META),
    }
    with never_waiting():
        model(batch)["loss"].backward()
    return model


@pytest.mark.parametrize("intrinsics", ["known", "learn"])
@pytest.mark.parametrize("start", ["scratch", "street"])
def test_a_training_step_never_waits_for_the_device(intrinsics, start):
    model = step(intrinsics, start)
    assert all(p.grad is not None for p in model.depth.parameters())
