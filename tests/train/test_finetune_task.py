"""Fine-tuning: batches, starts, learning, and what is wrong with any of it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from epochs import epoch_batches
from labelled_tree import camvid_tree
from safetensors.torch import save_file

from cpcdr.frames import FrameSource, open_frames
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import FinetuneModule
from cpcdr.model.resnet import Encoder
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.train.finetune_config import FinetuneSettings
from cpcdr.train.finetune_task import FinetuneTask
from cpcdr.train.pretrain_task import PretrainModule

STREET = open_frames("synthetic:seed=3,streets=6,frames=2,height=64,width=128")
SMALL = FinetuneSettings(
    model=ModelConfig("resnet10", 8, 16, 32, 16, 8), size=(64, 128), batch_size=2
)


def test_batches_are_a_function_of_seed_epoch_and_step() -> None:
    task = FinetuneTask(SMALL, STREET)
    assert task.steps_per_epoch(2) == 3
    whole = epoch_batches(task, 1, 0, 0, 2)
    (last,) = epoch_batches(task, 1, 2, 0, 2)
    assert torch.equal(last["images"], whole[2]["images"])
    assert torch.equal(last["labels"], whole[2]["labels"])
    other = epoch_batches(task, 1, 0, 1, 2)[0]
    assert not torch.equal(other["images"], whole[0]["images"])


def test_a_relative_start_is_found_by_a_worker_of_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder("resnet10", 8)
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    settings = replace(SMALL, network="weights.safetensors")
    travelled = pickle.dumps(FinetuneTask(settings, STREET))
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    module = pickle.loads(travelled).build()
    assert torch.equal(module.network.backbone.conv1.weight, encoder.conv1.weight)


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
    batches = task.batches(0, 0, 1, torch.device("cpu"))
    for batch in islice(batches, 4 * task.steps_per_epoch(1)):
        loss = module(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2])
    assert torch.equal(module.network.prototypes, before)


def test_weights_from_disk(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = Encoder("resnet10", 8)
    weights = encoder.state_dict() | {"fc.weight": torch.zeros(3, 3)}
    save_file(weights, tmp_path / "resnet.safetensors")
    init = str(tmp_path / "resnet.safetensors")
    module = FinetuneTask(replace(SMALL, network=init), STREET).build()
    assert isinstance(module, FinetuneModule)
    assert torch.equal(module.network.backbone.conv1.weight, encoder.conv1.weight)
    wrong = replace(SMALL, network=init, model=replace(SMALL.model, width=16))
    with pytest.raises(InputError, match="which in resnet10 of width 16"):
        FinetuneTask(wrong, STREET)


def test_the_backbone_or_all_of_a_pretrained_network_is_taken(tmp_path: Path) -> None:
    trained = PretrainModule(SMALL.model, LossConfig())
    values = {"kind": "pretrain", "config": {"model": to_plain(SMALL.model)}}
    folder = write_checkpoint(tmp_path, 1, values, trained.state_dict(), {})
    for transfer in ("backbone", "network"):
        settings = replace(SMALL, network=str(folder), transfer=transfer)
        module = FinetuneTask(settings, STREET).build()
        assert isinstance(module, FinetuneModule)
        for name, weight in module.network.state_dict().items():
            same = torch.equal(weight, trained.network.state_dict()[name])
            if transfer == "network" or name.startswith("backbone"):
                assert same, name
            elif weight.ndim == 4:
                assert not same, name


def test_crops_are_as_large_as_what_the_start_was_trained_on(tmp_path: Path) -> None:
    def size(settings: FinetuneSettings, source: FrameSource = STREET) -> tuple[int, int]:
        return FinetuneTask(settings, source).settings.size

    chosen = replace(SMALL, size=(0, 0))
    values = {"config": {"model": to_plain(SMALL.model), "dataset": {"size": [96, 160]}}}
    weights = PretrainModule(SMALL.model, LossConfig()).state_dict()
    folder = write_checkpoint(tmp_path, 1, {"kind": "pretrain", **values}, weights, {})
    pretrained = replace(chosen, network=str(folder))
    assert size(pretrained) == (96, 160)
    assert size(replace(pretrained, size=(32, 64))) == (32, 64)
    assert size(chosen) == (64, 128), "small frames as they are"
    large = open_frames("synthetic:seed=3,streets=1,frames=1,height=720,width=1280")
    assert size(chosen, large) == (288, 512), "all of a large frame"
    values["config"] = {"model": to_plain(SMALL.model)}
    damaged = write_checkpoint(tmp_path, 2, {"kind": "pretrain", **values}, weights, {})
    with pytest.raises(InputError, match=r"config\.yaml: has no size of two numbers"):
        size(replace(chosen, network=str(damaged)))


def test_frames_without_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(STREET.read(STREET.refs()[0]).encoded)
    with pytest.raises(InputError, match="has no labels"):
        FinetuneTask(SMALL, open_frames(f"images:{tmp_path}"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fraction": 0.0}, "--finetune.fraction 0.0"),
        ({"scales": (2.0, 1.0)}, "--finetune.scales"),
        ({"size": (0, 64)}, "--finetune.size 0 64"),
        ({"size": (64, 31)}, "--finetune.size 64 31"),
        ({"batch_size": 0}, "--finetune.batch-size 0"),
        ({"batch_size": 1, "size": (32, 32)}, "a single value"),
        ({"jitter": 2.0}, "--finetune.jitter 2.0"),
        ({"head_lr": 0.0}, "--finetune.head-lr"),
        ({"cache_mib": -1}, "--finetune.cache-mib"),
    ],
)
def test_settings_that_cannot_be_name_the_option(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(SMALL, **changes)


def test_how_a_backbone_is_trained_is_not_taken_from_a_checkpoint(tmp_path: Path) -> None:
    """Its sizes are: a pre-training may have kept all of it still."""
    how = {"freeze": 4, "norm": "frozen", "backbone_lr": 0.1, "init": "/gone.safetensors"}
    trained = replace(SMALL.model, **how)
    values = {"kind": "pretrain", "config": {"model": to_plain(trained)}}
    weights = PretrainModule(trained, LossConfig()).state_dict()
    folder = write_checkpoint(tmp_path, 1, values, weights, {})
    task = FinetuneTask(replace(SMALL, network=str(folder)), STREET)
    assert task.model == SMALL.model
    own = replace(SMALL, network=str(folder), model=replace(SMALL.model, freeze=1, backbone_lr=0.5))
    task = FinetuneTask(own, STREET)
    module = task.build()
    assert isinstance(module, FinetuneModule)
    assert not module.network.backbone.conv1.weight.requires_grad
    assert module.network.backbone.layer4[0].conv1.weight.requires_grad
    assert [g.get("lr_scale") for g in task.parameter_groups(module)][-2:] == [None, 10.0]


def test_batches_come_from_the_frames_that_can_be_read(tmp_path: Path) -> None:
    source = camvid_tree(tmp_path)
    settings = replace(SMALL, batch_size=3)
    (tmp_path / "labels" / "A_001.png").write_bytes(b"no image")
    task = FinetuneTask(settings, source)
    assert len(task.refs) == 5 and list(task.rejected) == task.config()["left_out"] == [
        "A/00000001"
    ]
    assert task.steps_per_epoch(1) == len(epoch_batches(task, 0)) == 1
    balanced = FinetuneTask(replace(settings, balanced=True), source)
    assert balanced.weights is not None and len(balanced.weights) == 11
    assert balanced.weights[10] == max(balanced.weights), "no label shows a cyclist"
