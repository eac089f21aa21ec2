"""What a backbone starts from: files under any prefix, checkpoints, the hub; what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.model.weights import (
    find_start,
    interpolate_backbone,
    library_state,
    load_backbone,
    loaded_weights,
    named_start,
    start_digest,
)
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError

MODEL = ModelConfig("timm:test_efficientnet", 8, 16, 32, 8, 5)
NAMES = ("test_vit", "test_efficientnet")


def network_of(config: ModelConfig = MODEL, seed: int = 0) -> SegmentationNetwork:
    torch.manual_seed(seed)
    return SegmentationNetwork(config)


def checkpoint_of(folder: Path, network: SegmentationNetwork) -> Path:
    weights = {f"network.{k}": v for k, v in network.state_dict().items()}
    values = {"kind": "pretrain", "config": {"model": to_plain(network.config)}}
    return write_checkpoint(folder, 1, values, weights, {})


@pytest.mark.parametrize("prefix", ["", "module.", "student.backbone."])
@pytest.mark.parametrize("name", NAMES)
def test_timms_names_under_any_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    torch.manual_seed(9)
    theirs = timm.create_model(name)
    path = tmp_path / "weights.safetensors"
    save_file({prefix + k: v.contiguous() for k, v in theirs.state_dict().items()}, path)
    network = network_of(replace(MODEL, backbone=f"timm:{name}"))
    sentence = load_backbone(network, find_start(str(path), network.config.backbone))
    ours, whole = library_state(network.backbone), theirs.state_dict()
    assert all(torch.equal(v, whole[k]) for k, v in ours.items() if not k.startswith("neck."))
    taken = sum(not k.startswith("neck.") for k in ours)
    assert f"{taken} tensors loaded into the backbone timm:{name}; left out: " in sentence


def test_statistics_without_their_count(tmp_path: Path) -> None:
    state = library_state(network_of(seed=1).backbone)
    save_file({k: v for k, v in state.items() if "tracked" not in k}, tmp_path / "w.safetensors")
    assert "loaded" in load_backbone(network_of(), str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("name", ["resnet10", "timm:test_vit"])
def test_a_checkpoint_of_ours(tmp_path: Path, name: str) -> None:
    trained = network_of(replace(MODEL, backbone=name), seed=4)
    folder = checkpoint_of(tmp_path, trained)
    network = network_of(trained.config)
    load_backbone(network, find_start(str(folder), name))
    state, head = trained.backbone.state_dict(), network.head.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in network.backbone.state_dict().items())
    assert not all(torch.equal(v, head[k]) for k, v in trained.head.state_dict().items())
    assert start_digest(str(folder)) != ""


@pytest.mark.parametrize("name", ["resnet10", "timm:test_vit"])
@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_between_a_start_and_what_was_learned(name: str, fraction: float) -> None:
    start = loaded_weights(network_of(replace(MODEL, backbone=name), seed=1))
    network = network_of(replace(MODEL, backbone=name), seed=2)
    learned = {k: v.clone() for k, v in network.state_dict().items()}
    interpolate_backbone(network, start, fraction)
    moved = set()
    for key, value in network.state_dict().items():
        own = key.removeprefix("backbone.")
        if key.startswith("backbone.") and own in start:
            wanted = (1 - fraction) * start[own] + fraction * learned[key]
            torch.testing.assert_close(value, wanted)
            moved |= {own} if not torch.equal(value, learned[key]) else set()
        else:
            assert torch.equal(value, learned[key]), key
    assert (len(moved) > 10) == (fraction < 1)
    assert not any(key.startswith("neck.") for key in start)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolate": 0.5}, "needs pretrained weights"),
        ({"interpolate": 0.0, "init": "timm"}, "above 0 and at most 1"),
        ({"interpolate": 1.5, "init": "timm"}, "above 0 and at most 1"),
    ],
)
def test_where_a_backbone_cannot_end(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(MODEL, **changes)


def test_weights_of_another_network_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    folder = checkpoint_of(tmp_path, network_of(replace(MODEL, backbone="resnet10", width=16)))
    with pytest.raises(InputError, match=r"step-00000001: its 'network\.backbone\..* of width 8"):
        load_backbone(network_of(replace(MODEL, backbone="resnet10")), str(folder))
    with pytest.raises(InputError, match=r"has no tensor .* of timm:test_efficientnet; give"):
        load_backbone(network_of(), str(folder))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "mark",))

    for name in ("weights.pth", "weights.bin"):
        (tmp_path / name).write_bytes(pickle.dumps(Harmful()))
        with pytest.raises(InputError, match="is a pickle, which may run code"):
            find_start(str(tmp_path / name), "resnet18")
    harmful = (tmp_path / "weights.pth").rename(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="is not a file of safetensors"):
        load_backbone(network_of(), find_start(str(harmful), "resnet18"))
    assert not (tmp_path / "mark").exists()


def test_starts_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a\.safetensors: there is no such file"):
        find_start(str(tmp_path / "a.safetensors"), "resnet18")
    with pytest.raises(InputError, match=r"nowhere: has no config\.yaml; give a checkpoint"):
        find_start("nowhere", "resnet18")
    with pytest.raises(InputError, match="resnet18 is not a network of timm"):
        find_start("timm", "resnet18")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*give a file of them"):
        find_start("timm", "timm:test_vit")
    assert find_start("", "resnet18") == find_start("scratch", "resnet18") == start_digest("") == ""


def test_how_a_start_is_recorded() -> None:
    assert named_start("scratch", "") == "scratch"
    assert named_start("timm", "/cache/model.safetensors") == "timm"
    assert named_start("/runs/a", "/runs/a/checkpoint") == "/runs/a/checkpoint"


def test_real_weights_of_imagenet(shared_data: Path) -> None:
    path = shared_data / "backbones" / "tf_efficientnet_lite0.safetensors"
    if not path.is_file():
        pytest.skip("no pretrained weights: there is no shared/data/backbones")
    network = network_of(replace(MODEL, backbone="timm:tf_efficientnet_lite0"))
    assert "288 tensors loaded" in load_backbone(network, find_start(str(path), ""))
    theirs = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)
    )
    theirs.load_state_dict(library_state(network.backbone))
    images = torch.rand(1, 3, 75, 99)
    with torch.no_grad():
        maps = network.eval().backbone(network.backbone.normalisation(images))
        for ours, their in zip(maps, theirs.eval()((images - 0.5) / 0.5), strict=True):
            torch.testing.assert_close(ours, their, rtol=1e-5, atol=1e-5)
