"""Backbones taken away again: the same features in timm's and torchvision's own code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torchvision import models

from cpcdr.model.backbone import STRIDES
from cpcdr.model.config import ModelConfig
from cpcdr.model.export import write_backbone
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.model.weights import load_backbone
from cpcdr.runtime.errors import InputError

MODEL = ModelConfig("resnet18", 64, 16, 32, 8, 5)


def trained(backbone: str) -> SegmentationNetwork:
    """A network whose weights and statistics are not those of its initialisation."""
    torch.manual_seed(3)
    network = SegmentationNetwork(replace(MODEL, backbone=backbone))
    for _ in range(3):
        network.backbone(torch.randn(2, 3, 64, 64))
    return network.eval()


def normalised(images: torch.Tensor, file: Path) -> torch.Tensor:
    """As a user does who has the JSON file alone."""
    values = json.loads(file.with_suffix(".json").read_text())["normalisation"]
    mean, std = (torch.tensor(values[key])[:, None, None] for key in ("mean", "std"))
    return (images - mean) / std


def features(network: SegmentationNetwork, images: torch.Tensor) -> list[torch.Tensor]:
    backbone = network.backbone
    maps = backbone(backbone.normalisation(images))
    return [maps[backbone.strides.index(stride)] for stride in STRIDES]


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_convnext", "resnet18"])
def test_features_in_timms_code(tmp_path: Path, name: str) -> None:
    network, out = trained(name), tmp_path / "backbone.safetensors"
    written = write_backbone(network.backbone, network.config, "timm", out, {})
    theirs = timm.create_model(name.removeprefix("timm:"), num_classes=0).eval()
    report = theirs.load_state_dict(load_file(out), strict=False)
    assert report.unexpected_keys == []
    images = torch.rand(1, 3, 64, 96)
    maps = theirs.forward_intermediates(normalised(images, out), intermediates_only=True)
    assert_equal(features(network, images), maps[-4:])
    assert written["model"] in written["load"] and json.loads(
        out.with_suffix(".json").read_text()
    ) == json.loads(json.dumps(written))


@torch.no_grad()
@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet18"])
def test_features_in_torchvisions_code(tmp_path: Path, name: str) -> None:
    network, out = trained(name), tmp_path / "backbone.safetensors"
    write_backbone(network.backbone, network.config, "torchvision", out, {})
    theirs = models.get_model("resnet18", weights=None).eval()
    report = theirs.load_state_dict(load_file(out), strict=False)
    assert report.unexpected_keys == [] and report.missing_keys == ["fc.weight", "fc.bias"]
    images = torch.rand(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(normalised(images, out)))))
    maps = []
    for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        maps.append(x := stage(x))
    assert_equal(features(network, images), maps)


@torch.no_grad()
def test_a_transformer_without_our_pyramid(tmp_path: Path) -> None:
    network, out = trained("timm:test_vit"), tmp_path / "backbone.safetensors"
    written = write_backbone(network.backbone, network.config, "timm", out, {})
    assert (written["channels"], written["strides"]) == ([64], [16])
    theirs = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(load_file(out))
    images = torch.rand(1, 3, 64, 96)
    tokens = theirs.forward_features(normalised(images, out))[:, -24:]
    expected = tokens.transpose(1, 2).unflatten(2, (4, 6))
    assert_equal([features(network, images)[2]], [expected])


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet10", "timm:test_vit", "torchvision:mobilenet_v3_small"])
def test_the_start_of_another_training(tmp_path: Path, name: str) -> None:
    network, out = trained(name), tmp_path / "backbone.safetensors"
    write_backbone(network.backbone, network.config, "safetensors", out, {})
    other = SegmentationNetwork(network.config).eval()
    sentence = load_backbone(other, str(out))
    assert "left out" not in sentence
    images = torch.rand(1, 3, 70, 90)
    assert_equal(features(network, images), features(other, images))


@pytest.mark.parametrize(
    ("library", "changes"),
    [
        ("torchvision", {"backbone": "timm:test_resnet"}),
        ("timm", {"backbone": "torchvision:resnet18"}),
        ("timm", {"backbone": "resnet18", "width": 16}),
        ("timm", {"backbone": "resnet10"}),
    ],
)
def test_what_the_library_does_not_have_is_a_sentence(
    tmp_path: Path, library: str, changes: dict[str, object]
) -> None:
    model = replace(MODEL, **changes)  # type: ignore[arg-type]
    network = SegmentationNetwork(model)
    with pytest.raises(InputError, match=f"--format {library}: {library} has no .*give --format"):
        write_backbone(network.backbone, model, library, tmp_path / "b.safetensors", {})
    assert not list(tmp_path.iterdir())
