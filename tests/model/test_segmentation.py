"""The network: shapes at any size, prototypes on the unit sphere, assignment, checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cpcdr.model import segmentation
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError

TINY = ModelConfig("resnet18", fpn_channels=16, head_channels=32, feature_dim=8, prototypes=5)


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(TINY).eval()


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (65, 97), (33, 50), (37, 31), (4, 5), (1, 1)])
def test_shapes_at_any_size(network: SegmentationNetwork, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    h, w = (-(-side // 4) for side in size)
    assert network.embed(images).shape == (2, TINY.head_channels, h, w)
    assert network(images).shape == (2, TINY.feature_dim, h, w)
    assert network.nearest(network(images), size).shape == (2, *size)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_backbone_levels_are_at_strides_4_to_32(backbone: str) -> None:
    model = SegmentationNetwork(ModelConfig(backbone, 16, 16, 32, 8, 5))
    levels = model.backbone(torch.rand(1, 3, 64, 128))
    assert [tuple(x.shape[-2:]) for x in levels[1:]] == [(16, 32), (8, 16), (4, 8), (2, 4)]
    assert [x.shape[1] for x in levels] == model.backbone.channels


def test_every_parameter_is_trained() -> None:
    model = SegmentationNetwork(TINY)
    features = F.normalize(model(torch.rand(2, 3, 64, 64)), dim=1)
    torch.einsum("nchw,kc->nkhw", features, model.prototypes).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_prototypes_start_and_stay_on_the_unit_sphere() -> None:
    model = SegmentationNetwork(TINY)
    ones = torch.ones(TINY.prototypes)
    torch.testing.assert_close(model.prototypes.norm(dim=1), ones)
    with torch.no_grad():
        model.prototypes.mul_(3).add_(0.1)
    before = model.prototypes.detach().clone()
    model.normalise_prototypes()
    torch.testing.assert_close(model.prototypes.norm(dim=1), ones)
    torch.testing.assert_close(F.cosine_similarity(model.prototypes, before), ones)


def test_assign_takes_the_prototype_of_highest_cosine(network: SegmentationNetwork) -> None:
    images = torch.rand(2, 3, 40, 56)
    with torch.no_grad():
        features = F.interpolate(network(images), size=(40, 56), mode="bilinear")
        cosine = F.cosine_similarity(
            features[:, None], network.prototypes[None, :, :, None, None], 2
        )
        assert torch.equal(network.nearest(network(images), (40, 56)), cosine.argmax(dim=1))


def test_images_in_0_to_1_are_standardised_inside(network: SegmentationNetwork) -> None:
    seen = []
    hook = network.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        network.embed(torch.full((1, 3, 64, 64), 0.45))
        network.embed(torch.full((1, 3, 64, 64), 0.45 + 0.225))
    hook.remove()
    torch.testing.assert_close(seen[0][0], torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(seen[1][0], torch.ones(1, 3, 64, 64))


def save(folder: Path, model: SegmentationNetwork, config: ModelConfig) -> Path:
    weights = {f"network.{name}": value for name, value in model.state_dict().items()}
    values = {"kind": "pretrain", "config": {"model": to_plain(config)}}
    return write_checkpoint(folder, 7, values, weights, {})


def test_a_checkpoint_gives_the_same_network_back(
    tmp_path: Path, network: SegmentationNetwork
) -> None:
    loaded, values = load_network(save(tmp_path, network, TINY))
    assert values["step"] == 7
    assert loaded.config == TINY
    assert not loaded.training
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_weights_of_another_network_are_refused(
    tmp_path: Path, network: SegmentationNetwork
) -> None:
    other = ModelConfig("resnet18", 64, 16, 32, 8, prototypes=6)
    with pytest.raises(InputError, match=r"model\.safetensors: its weights do not fit"):
        load_network(save(tmp_path, network, other))


def test_weights_with_more_than_the_network_are_refused(
    tmp_path: Path, network: SegmentationNetwork
) -> None:
    """A fine-tuned network under a pre-training's config.yaml: its classifier would be lost."""
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    weights["classifier.weight"] = torch.zeros(7, 32, 1, 1)
    values = {"kind": "pretrain", "config": {"model": to_plain(TINY)}}
    folder = write_checkpoint(tmp_path, 1, values, weights, {})
    with pytest.raises(InputError, match=r"model\.safetensors: its weights do not fit"):
        load_network(folder)


def test_a_checkpoint_without_a_model_section_is_refused(
    tmp_path: Path, network: SegmentationNetwork
) -> None:
    folder = write_checkpoint(tmp_path, 1, {"kind": "pretrain", "config": {}}, {}, {})
    with pytest.raises(InputError, match=r"config\.yaml"):
        load_network(folder)


def test_impossible_configurations_are_said() -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        ModelConfig(head_channels=100)
    with pytest.raises(InputError, match="prototypes must be at least 1, not 0"):
        ModelConfig(prototypes=0)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"backbone": "vgg"}, "model: backbone must be one of resnet10, .* not 'vgg'"),
        ({"depth": 3}, "model: unknown key 'depth'"),
        ({"width": "wide"}, "model: width must be of type int"),
    ],
)
def test_a_damaged_model_section_names_its_file(
    tmp_path: Path, section: dict[str, object], words: str
) -> None:
    values = {"kind": "pretrain", "config": {"model": section}}
    folder = write_checkpoint(tmp_path, 1, values, {}, {})
    with pytest.raises(InputError, match=rf"config\.yaml: {words}"):
        load_network(folder)


@pytest.mark.parametrize("size", [10**12, 2**62])
@pytest.mark.parametrize("name", ["width", "prototypes", "feature_dim", "fpn_channels"])
def test_impossible_sizes_cost_no_memory(tmp_path: Path, name: str, size: int) -> None:
    values = {"kind": "pretrain", "config": {"model": {name: size}}}
    folder = write_checkpoint(tmp_path, 1, values, {}, {})
    with pytest.raises(InputError, match="do not fit its config"):
        load_network(folder)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_assign_in_strips_gives_the_same_and_never_holds_all_scores(
    network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        whole = network.nearest(network(images), (96, 128))
        for scores in (1, 2000, 5000):
            monkeypatch.setattr(segmentation, "_SCORES", scores)
            assert torch.equal(network.nearest(network(images), (96, 128)), whole)
    monkeypatch.undo()
    torch.manual_seed(0)
    wide = SegmentationNetwork(replace(TINY, prototypes=1000)).eval()
    with torch.no_grad(), LargestTensor() as largest:
        wide.nearest(wide(torch.rand(1, 3, 256, 512)), (256, 512))
    assert largest.elements <= segmentation._SCORES < 256 * 512 * 1000 / 7


def test_group_normalisation_has_no_statistics_and_padding_repeats_the_border() -> None:
    torch.manual_seed(0)
    config = replace(TINY, width=16, head_channels=128, normalisation="group", padding="replicate")
    model = SegmentationNetwork(config).train()
    assert not [name for name in model.state_dict() if "running" in name]
    one, other = torch.rand(2, 1, 3, 64, 96)
    together = model(torch.cat([one, other]))
    torch.testing.assert_close(together[:1], model(one), atol=1e-4, rtol=1e-3)
    # A plain image is the same everywhere, where zeros would show the border.
    plain = model(torch.full((1, 3, 64, 96), 0.4))
    assert plain.std((2, 3)).max() < 1e-4 * plain.abs().max()
    zeros = SegmentationNetwork(replace(config, padding="zeros"))
    zeros.load_state_dict(model.state_dict())
    assert zeros(torch.full((1, 3, 64, 96), 0.4)).std((2, 3)).max() > 1e-2 * plain.abs().max()
    with pytest.raises(InputError, match="batch normalisation of its own kind"):
        SegmentationNetwork(replace(config, backbone="timm:test_efficientnet"))
