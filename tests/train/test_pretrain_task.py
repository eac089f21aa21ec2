"""The pre-training task: items of the ranks, prototypes, and that labels fit the images."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from epochs import epoch_batches
from manifests import manifest, write_manifest
from safetensors.torch import save_file
from torch import nn

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.dataset import PreparedDataset
from cpcdr.loss.config import LossConfig
from cpcdr.maps import encode_disparity, encode_ids
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.prepare.parts import finish, write_part
from cpcdr.runtime.errors import InputError
from cpcdr.train.pretrain_task import PretrainModule, PretrainTask, stack_frames

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 20)
LOSS = LossConfig(pixel_points=20, region_points=40)
CPU = torch.device("cpu")
FRAMES = 24


def row(index: int) -> dict[str, Any]:
    """A frame of six regions, whose brightness is its index."""
    regions = np.add.outer(3 * (np.arange(64) >= 32), np.arange(96) // 32).astype(np.uint16)
    image = np.full((64, 96, 3), 10 * index, np.uint8)
    disparity = np.linspace(0.1, 0.9, 64, dtype=np.float32)[:, None].repeat(96, axis=1)
    return {
        "sequence": "s", "frame_index": index, "frame_id": f"s/{index:08d}",
        "image": cv2.imencode(".png", image)[1].tobytes(), "height": 64, "width": 96,
        "intrinsics": [80.0, 80.0, 47.5, 31.5], "source": "test:",
        "disparity": encode_disparity(disparity), "regions": encode_ids(regions),
        "num_regions": 6, "superpixels": encode_ids(regions), "edges": [0, 1],
        "edge_distance": [0.5], "reason": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    (folder / "data").mkdir(parents=True)
    write_part(folder, [row(i) for i in range(FRAMES)])
    finish(folder)
    write_manifest(folder, manifest(FRAMES, size=[64, 96]))
    return folder


def task(data: Path, **changes: Any) -> PretrainTask:
    settings = {"frames_per_item": 2, "loss": LOSS, "model": MODEL, "seed": 5} | changes
    return PretrainTask(data=data, **settings)


def test_after_a_step_prototypes_are_back_on_the_unit_sphere(data: Path) -> None:
    pretraining = task(data)
    module = pretraining.build()
    assert isinstance(module, PretrainModule)
    with torch.no_grad():
        module.network.prototypes.mul_(3).add_(0.1)
    pretraining.after_step(module)
    torch.testing.assert_close(module.network.prototypes.norm(dim=1), torch.ones(20))


def test_regions_that_are_nowhere_change_no_gradient(data: Path) -> None:
    pretraining = task(data)
    batch = next(iter(pretraining.batches(0, 0, 1, CPU)))
    assert len(batch["image_of"]) == len(batch["transforms"]) == 256
    there = 12  # two frames of six
    assert torch.all(batch["image_of"][there:] == -1)
    without = {**batch, **{n: batch[n][:there] for n in ("transforms", "image_of")}}
    found = []
    for inputs in (batch, without):
        torch.manual_seed(0)
        module = pretraining.build()
        metrics = module(inputs)
        metrics["loss"].backward()
        found.append((metrics, [p.grad for p in module.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_an_epochs_frames_without_overlap(
    data: Path, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    samples = PreparedDataset.samples

    def noting(self: PreparedDataset, indices: list[int]) -> Any:
        read.extend((rank, index) for index in indices)
        return samples(self, indices)

    monkeypatch.setattr(PreparedDataset, "samples", noting)
    pretraining, steps = task(data), FRAMES // 2 // world_size
    assert pretraining.steps_per_epoch(world_size) == steps
    seen: list[int] = []
    for rank in range(world_size):
        epoch_batches(pretraining, 0, 0, rank, world_size)
        own = [index for mine, index in read if mine == rank]
        seen += own[: FRAMES // world_size]  # what follows is read ahead, of the next epoch
    assert sorted(seen) == list(range(FRAMES))


def test_a_batch_does_not_depend_on_where_its_epoch_is_entered(data: Path) -> None:
    pretraining = task(data)
    whole = epoch_batches(pretraining, 1, 0, 1, 2)
    (last,) = epoch_batches(pretraining, 1, 5, 1, 2)
    for name, value in last.items():
        assert torch.equal(value, whole[5][name]), name
    other = epoch_batches(pretraining, 1, 0, 0, 2)[0]
    assert not torch.equal(other["images"], whole[0]["images"])


@pytest.mark.parametrize("items", [1, 3])
def test_every_pixels_region_and_appearance_are_those_of_its_image(data: Path, items: int) -> None:
    """Region ids begin at 0 and count on over the frames of a batch, without a gap."""
    batch = next(task(data, items=items).batches(0, 0, 1, CPU))
    regions, appearances = batch["regions"], batch["appearances"]
    count = 6 * 2 * items
    assert len(batch["image_of"]) == len(batch["transforms"]) == 256
    assert torch.all((batch["image_of"] >= 0).any(dim=1).nonzero()[:, 0] == torch.arange(count))
    assert regions.min() >= 0 and regions.max() < count
    assert regions.unique().numel() > count // 2
    image = torch.arange(len(regions))[:, None, None].expand_as(regions)
    assert torch.equal(batch["image_of"][regions, appearances], image)


def test_frames_reach_the_compositor_with_the_ids_of_the_dataset(data: Path) -> None:
    samples = PreparedDataset(data).samples([3, 7])
    frames = stack_frames(samples, 1, pin=False)
    expected = np.add.outer(3 * (np.arange(64) >= 32), np.arange(96) // 32)
    for regions in frames.regions[0]:
        np.testing.assert_array_equal(regions.numpy(), expected)


def test_statistics_of_clean_frames(data: Path) -> None:
    """Running means are those of the frames themselves, and training continues as without."""
    pretraining = task(data, model=replace(MODEL, norm="clean"))
    torch.manual_seed(0)
    module = pretraining.build()
    assert isinstance(module, PretrainModule)
    first, projector = module.network.backbone.bn1, module.network.projector[1]
    before = {k: v.clone() for k, v in module.named_parameters()}
    assert pretraining.validate(module) == {}
    frames = torch.from_numpy(
        np.stack([s.image for s in PreparedDataset(data).samples(range(FRAMES))])
    )
    normalised = module.network.backbone.normalisation(frames.movedim(-1, 1) / 255)
    with torch.no_grad():
        mean = module.network.backbone.conv1(normalised).mean((0, 2, 3))
    torch.testing.assert_close(first.running_mean, mean, rtol=1e-4, atol=1e-5)
    assert first.momentum == 0.1 and module.training and projector.running_mean.any()
    assert all(torch.equal(v, before[k]) for k, v in module.named_parameters())

    plain = task(data)
    other = plain.build()
    assert isinstance(other, PretrainModule)
    untouched = other.network.backbone.bn1.running_mean.clone()
    plain.validate(other)
    assert torch.equal(other.network.backbone.bn1.running_mean, untouched)


def test_frozen_stages_keep_their_statistics(data: Path) -> None:
    pretraining = task(data, model=replace(MODEL, norm="clean", freeze=1))
    module = pretraining.build()
    assert isinstance(module, PretrainModule)
    pretraining.validate(module)
    assert not module.network.backbone.bn1.running_mean.any()
    assert module.network.backbone.layer4[0].bn1.running_mean.any()


def test_a_backbone_ends_halfway_to_what_it_learned(data: Path, tmp_path: Path) -> None:
    """Its weights are the mean; head and prototypes stay; statistics are those of the mean."""
    torch.manual_seed(1)
    first = SegmentationNetwork(MODEL).backbone.state_dict()
    save_file(first, tmp_path / "start.safetensors")
    start = str(tmp_path / "start.safetensors")
    model = replace(MODEL, init=start, interpolate=0.5)
    halfway = task(data, model=model, start=start)
    module = halfway.build()
    assert isinstance(module, PretrainModule)
    network = module.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    learned = copy.deepcopy(network)
    halfway.finish(module)
    for name, value in network.named_parameters():
        was = learned.get_parameter(name)
        of_backbone = name.removeprefix("backbone.")
        mean = (first[of_backbone] + was) / 2 if of_backbone != name else was
        torch.testing.assert_close(value, mean, msg=name)
    twin = copy.deepcopy(network)
    task(data, model=replace(model, norm="clean"), start=start).validate(_holding(twin))
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in network.state_dict().items())

    whole = task(data, model=replace(model, interpolate=1.0), start=start)
    module = whole.build()
    assert isinstance(module, PretrainModule) and not module.started_from
    before = copy.deepcopy(module.state_dict())
    whole.finish(module)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def _holding(network: SegmentationNetwork) -> PretrainModule:
    module = PretrainModule(network.config, LOSS)
    module.network = network
    return module


def test_images_without_pastes_have_statistics_of_their_own(data: Path) -> None:
    pastes = CopyPasteConfig(pastes=(4, 0))
    with pytest.raises(InputError, match="needs images without pastes"):
        task(data, model=replace(MODEL, norm="separate"), copy_paste=CopyPasteConfig()).build()
    apart = task(data, model=replace(MODEL, norm="separate"), copy_paste=pastes)
    torch.manual_seed(0)
    module = apart.build().train()
    assert isinstance(module, PretrainModule)
    batch = next(iter(apart.batches(0, 0, 1, torch.device("cpu"))))
    images = batch["images"]
    clean = torch.arange(len(images)) // apart.frames_per_item % 2 == 1
    found = module._features(images)
    twin = copy.deepcopy(module.network)
    seen = {k: v.clone() for k, v in module.network.state_dict().items() if "running" in k}
    alone = task(data, model=MODEL, copy_paste=pastes).build().network.train()
    alone.load_state_dict(twin.state_dict())
    for part in (clean, ~clean):
        torch.testing.assert_close(alone(images[part]), found[part], atol=1e-5, rtol=1e-4)
    fresh = copy.deepcopy(module.network)
    for layer in fresh.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    fresh(images[clean])
    for name, value in fresh.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, seen[name], msg=name)
    assert torch.isfinite(module(batch)["loss"])
