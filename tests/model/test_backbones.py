"""Backbones of timm, torchvision and one's own: their maps, normalisation, stages and training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from cpcdr.model import config as model_config
from cpcdr.model.backbone import IMAGENET, STRIDES, Normalisation, stages_of
from cpcdr.model.backbones import open_backbone, register_backbone
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError

MODEL = ModelConfig("resnet10", 8, 16, 32, 8, 5)
CONVOLUTIONAL = ["test_resnet", "test_efficientnet", "test_convnext", "tf_efficientnet_lite0"]
NAMES = [
    *(f"timm:{name}" for name in CONVOLUTIONAL),
    *("timm:test_vit", "timm:swin_tiny_patch4_window7_224", "torchvision:resnet18"),
    *("torchvision:mobilenet_v3_small", "torchvision:regnet_y_400mf", "torchvision:convnext_tiny"),
]


def network_of(backbone: str, **changes: object) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(replace(MODEL, backbone=backbone, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_maps_of_strides_4_to_32_at_any_size(name: str) -> None:
    network = network_of(name).eval()
    backbone = network.backbone
    assert backbone.strides == list(STRIDES)
    for size in ((64, 96), (65, 97), (33, 50)):
        with torch.no_grad():
            maps = backbone(torch.rand(1, 3, *size))
            wanted = [tuple(-(-side // stride) for side in size) for stride in STRIDES]
            assert [tuple(m.shape[-2:]) for m in maps] == wanted
            assert [m.shape[1] for m in maps] == backbone.channels
            assert network(torch.rand(1, 3, *size)).shape == (1, MODEL.feature_dim, *wanted[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_trained_and_has_one_stage(name: str) -> None:
    network = network_of(name)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    named = dict(network.backbone.named_parameters())
    assert [n for n, p in named.items() if p.grad is None] == []
    stages = stages_of(network.backbone)
    names = [name for stage in stages for name in stage]
    assert all(stages) and len(names) == len(set(names))
    assert set(names) == {n for n in named if not n.startswith("neck.")}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_features_are_timms(name: str) -> None:
    backbone = open_backbone(f"timm:{name}", 64).eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(
        {k.removeprefix("body."): v for k, v in backbone.state_dict().items()}, strict=False
    )
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, intermediates_only=True)[-4:]
        for ours, their in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(ours, their)


def test_features_are_torchvisions() -> None:
    backbone = open_backbone("torchvision:resnet18", 64).eval()
    theirs = models.resnet18(weights=None).eval()
    theirs.load_state_dict(
        {k.removeprefix("body."): v for k, v in backbone.state_dict().items()}, strict=False
    )
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for stage, ours in enumerate(backbone(images), 1):
            x = theirs.get_submodule(f"layer{stage}")(x)
            torch.testing.assert_close(ours, x)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_dinov2"])
def test_a_transformers_last_block_at_stride_16(name: str) -> None:
    backbone = open_backbone(f"timm:{name}", 64).eval()
    theirs = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    patch = theirs.feature_info[0]["reduction"]
    states = {k.removeprefix("body."): v for k, v in backbone.state_dict().items()}
    theirs.load_state_dict({k: v for k, v in states.items() if not k.startswith("neck.")})
    images = torch.rand(1, 3, 64, 96)
    scaled = nn.functional.interpolate(images, (4 * patch, 6 * patch), mode="bilinear")
    with torch.no_grad():
        tokens = theirs.forward_features(scaled)[:, -24:]
        expected = tokens.transpose(1, 2).unflatten(2, (4, 6))
        torch.testing.assert_close(backbone(images)[2], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("timm:tf_efficientnet_lite0", (0.5, 0.5, 0.5)),
        ("timm:convnext_atto", (0.485, 0.456, 0.406)),
        ("torchvision:resnet18", (0.485, 0.456, 0.406)),
        ("resnet10", (0.45, 0.45, 0.45)),
    ],
)
def test_the_networks_own_normalisation(name: str, mean: tuple[float, ...]) -> None:
    network, seen = network_of(name).eval(), []
    assert network.backbone.normalisation.mean == mean
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    std = network.backbone.normalisation.std
    pixels = torch.tensor([m + s for m, s in zip(mean, std, strict=True)])
    with torch.no_grad():
        network.embed(pixels[:, None, None].expand(1, 3, 64, 64))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 64, 64))


class Own(nn.Module):
    """A user's module: a mapping of maps, with one that is not needed."""

    def __init__(self, strides: tuple[int, ...] = (2, 2, 2, 2, 2)) -> None:
        super().__init__()
        widths = [3, 4, 6, 8, 10, 12]
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1) for i, stride in enumerate(strides)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = {}
        for i, layer in enumerate(self.layers):
            x = maps[str(i)] = layer(x).relu()
        return maps


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(model_config, "REGISTERED", {})
    monkeypatch.setattr("cpcdr.model.backbones.REGISTERED", model_config.REGISTERED)
    yield


def test_a_module_of_ones_own(registry: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be one of resnet10, .* not 'mine'"):
        ModelConfig("mine")
    register_backbone("mine", Own)
    network = network_of("mine").eval()
    assert network.backbone.channels == [6, 8, 10, 12]
    assert network.backbone.normalisation == IMAGENET
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    values = {"kind": "pretrain", "config": {"model": to_plain(network.config)}}
    loaded, _ = load_network(write_checkpoint(tmp_path, 1, values, weights, {}))
    images = torch.rand(1, 3, 70, 90)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))

    class Grey(Own):
        normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)

    register_backbone("grey", Grey)
    assert network_of("grey").backbone.normalisation.std == (0.25, 0.25, 0.25)
    with pytest.raises(InputError, match="name of cpcdr's own"):
        register_backbone("resnet18", Own)


def test_what_is_no_backbone_is_a_sentence(registry: None) -> None:
    register_backbone("dense", lambda: Own((2, 2, 2, 2, 1)))
    with pytest.raises(InputError, match="not of each of the strides 4, 8, 16 and 32"):
        network_of("dense")
    register_backbone("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 10)))
    with pytest.raises(InputError, match="does not map images of any size"):
        network_of("flat")
    for name, words in (
        ("timm:test_resnett", "no such network; is it test_resnet"),
        ("timm:test_vit.r16", r"no such network; is it .*test_vit\.r160_in1k"),
        ("torchvision:resnet19", "no such network; is it .*resnet18"),
        ("torchvision:swin_t", "no feature maps"),
        ("timm:maxvit_tiny_tf_224", "does not map images of any size"),
    ):
        with pytest.raises(InputError, match=words):
            network_of(name)


def test_without_timm_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm:test_vit needs timm: .*pip install"):
        open_backbone("timm:test_vit", 64)


@pytest.mark.parametrize("name", ["resnet10", "timm:test_efficientnet", "timm:test_vit"])
def test_frozen_stages_and_statistics_do_not_move(name: str) -> None:
    network = network_of(name, freeze=2, norm="frozen", backbone_lr=0.5)
    stages = stages_of(network.backbone)
    network.freeze()
    network.train()
    before = {k: v.clone() for k, v in network.backbone.state_dict().items()}
    groups = network.parameter_groups()
    assert not any(part.training for part in network.frozen), "asking for them thaws nothing"
    optimizer = torch.optim.SGD(groups, lr=0.1)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    after = network.backbone.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not moved & {*stages[0], *stages[1]}
    assert moved & {*stages[2]} and moved & {*stages[3]}
    assert not [k for k in moved if "running" in k or "tracked" in k]


def test_statistics_of_the_batch_are_the_default() -> None:
    network = network_of("timm:test_efficientnet", freeze=1)
    network.freeze()
    network(torch.rand(2, 3, 64, 64))
    moved = {k for k, v in network.backbone.state_dict().items() if "tracked" in k and v > 0}
    assert moved and not [k for k in moved if k.startswith(("body.conv_stem", "body.bn1"))]


def test_a_backbone_that_learns_more_slowly() -> None:
    assert len(network_of("timm:test_resnet").parameter_groups()) == 1
    network = network_of("timm:test_resnet", backbone_lr=0.5, stage_decay=0.1)
    groups = network.parameter_groups()
    assert [g.get("lr_scale", 1.0) for g in groups] == pytest.approx([5e-4, 5e-3, 0.05, 0.5, 1.0])
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in network.parameters()}
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    slow = {id(p) for g in groups[:-1] for p in g["params"]}
    assert slow == {id(p) for p in network.backbone.parameters()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"freeze": 5}, "freeze must be 0 to 4"),
        ({"backbone_lr": 0.0}, "backbone_lr must be above 0"),
        ({"stage_decay": 1.5}, "stage_decay above 0"),
        ({"backbone": "timm:"}, "must be one of"),
    ],
)
def test_impossible_training_of_a_backbone(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(MODEL, **changes)  # type: ignore[arg-type]
