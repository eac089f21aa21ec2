"""Fine-tuning: fixed lists of labels, crops that keep labels right, starts, learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cpcdr.checkpoint import write_checkpoint
from cpcdr.config import to_plain
from cpcdr.errors import InputError
from cpcdr.frames import IGNORE, open_frames
from cpcdr.loss import LossConfig
from cpcdr.model import ModelConfig
from cpcdr.resnet import Encoder
from cpcdr.train.finetune_task import (
    FinetuneModule,
    FinetuneSettings,
    FinetuneTask,
    chosen_refs,
    random_crop,
)
from cpcdr.train.pretrain_task import PretrainModule

STREET = open_frames("synthetic:seed=3,streets=6,frames=2,height=64,width=128")
SMALL = FinetuneSettings(
    model=ModelConfig("resnet10", 8, 16, 32, 16, 8), size=(64, 128), batch_size=2
)


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    whole = [ref.frame_id for ref in chosen_refs(STREET, 1.0)]
    half = [ref.frame_id for ref in chosen_refs(STREET, 0.5)]
    few = [ref.frame_id for ref in chosen_refs(STREET, 1 / 30)]
    assert len(whole) == 12 and len(half) == 6 and len(few) == 1
    assert set(few) < set(half) < set(whole)
    assert half == [ref.frame_id for ref in chosen_refs(STREET, 0.5)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.4, 2.5))
def test_crops_keep_image_and_labels_together(seed: int, scale: float) -> None:
    rows, columns = np.indices((40, 60))
    labels = (rows // 10 + 4 * (columns // 20)).astype(np.uint8)
    image = np.repeat((labels * 20)[..., None], 3, axis=2)
    rng = np.random.default_rng(seed)
    crop, cut = random_crop(image, labels, (32, 48), (scale, scale), rng)
    assert crop.shape == (32, 48, 3) and cut.shape == (32, 48)
    known = cut != IGNORE
    agree = np.abs(crop[..., 0].astype(int) - 20 * cut.astype(int)) <= 10
    assert agree[known].mean() > 0.8, "but for blurred borders"
    assert (crop[~known] == 0).all()


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    task = FinetuneTask(SMALL, STREET)
    device = torch.device("cpu")
    whole = list(task.batches(1, 0, 0, 2, device))
    assert len(whole) == task.steps_per_epoch(2) == 3
    (last,) = task.batches(1, 2, 0, 2, device)
    assert torch.equal(last["images"], whole[2]["images"])
    assert torch.equal(last["labels"], whole[2]["labels"])
    other = next(task.batches(1, 0, 1, 2, device))
    assert not torch.equal(other["images"], whole[0]["images"])


@pytest.mark.slow
def test_it_learns_and_only_what_it_should() -> None:
    torch.manual_seed(0)
    task = FinetuneTask(replace(SMALL, balanced=True, jitter=0.0, scales=(1.0, 1.0)), STREET)
    module = task.build()
    assert isinstance(module, FinetuneModule)
    groups = task.parameter_groups(module)
    assert groups[1]["lr_scale"] == 10.0
    optimizer = torch.optim.Adam([p for group in groups for p in group["params"]], lr=3e-3)
    before = module.network.prototypes.clone()
    losses = []
    for epoch in range(4):
        for batch in task.batches(epoch, 0, 0, 1, torch.device("cpu")):
            loss = module(batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2])
    assert torch.equal(module.network.prototypes, before)


def test_torchvision_weights_from_disk(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = Encoder("resnet10", 8)
    weights = encoder.state_dict() | {"fc.weight": torch.zeros(3, 3)}
    save_file(weights, tmp_path / "resnet.safetensors")
    init = f"torchvision:{tmp_path / 'resnet.safetensors'}"
    module = FinetuneTask(replace(SMALL, init=init), STREET).build()
    assert isinstance(module, FinetuneModule)
    assert torch.equal(module.network.backbone.conv1.weight, encoder.conv1.weight)
    wrong = replace(SMALL, init=init, model=replace(SMALL.model, width=16))
    with pytest.raises(InputError, match="torchvision weights for resnet10 of width 16"):
        FinetuneTask(wrong, STREET).build()


def test_the_backbone_or_all_of_a_pretrained_network_is_taken(tmp_path: Path) -> None:
    trained = PretrainModule(SMALL.model, LossConfig())
    values = {"kind": "pretrain", "config": {"model": to_plain(SMALL.model)}}
    folder = write_checkpoint(tmp_path, 1, values, trained.state_dict(), {})
    for transfer in ("backbone", "network"):
        settings = replace(SMALL, init=str(folder), transfer=transfer)
        module = FinetuneTask(settings, STREET).build()
        assert isinstance(module, FinetuneModule)
        for name, weight in module.network.state_dict().items():
            same = torch.equal(weight, trained.network.state_dict()[name])
            if transfer == "network" or name.startswith("backbone"):
                assert same, name
            elif weight.ndim == 4:
                assert not same, name
    with pytest.raises(InputError, match="--transfer head"):
        replace(SMALL, transfer="head")


def test_frames_without_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(STREET.read(STREET.refs()[0]).encoded)
    with pytest.raises(InputError, match="has no labels"):
        FinetuneTask(SMALL, open_frames(f"images:{tmp_path}"))
    with pytest.raises(InputError, match="--fraction"):
        replace(SMALL, fraction=0.0)
