"""A network of timm through every command: pretrained start, training, scores, use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import cpcdr
from cpcdr.commands import config_of, function_of
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import load_network
from cpcdr.model.weights import library_state
from cpcdr.runtime.cli import parse
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig
from cpcdr.train.pretrain_task import identity_of
from cpcdr.tune.config import TunePretrainConfig
from cpcdr.tune.search import claim_search
from cpcdr.tune.space import TRAINING_SPACE

pytestmark = pytest.mark.slow

STREET = "synthetic:streets=4,frames=4,height=64,width=128,seed=7"
SIZES = (
    "--model.backbone timm:test_efficientnet --model.fpn-channels 16 --model.head-channels 32 "
    "--model.feature-dim 16 --model.prototypes 24 --frames-per-item 2 --items 2 "
    "--loss.pixel-points 50 --loss.region-points 50"
)


def call(command: str, options: str) -> dict[str, Any]:
    """The result of a command in this process."""
    return dict(function_of(command)(parse(config_of(command), "", options.split())))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "timm.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    options = f"--frames {STREET} --out {out} --regions.superpixels 2000"
    call("prepare", f"{options} --engine local --tracking none")
    return out


def test_a_pretrained_start_through_every_command(
    tmp_path: Path,
    data: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(weights.parent)  # the start is given by a relative path
    start = f"--model.init {weights.name} --model.freeze 1 --model.norm frozen"
    training = f"--data {data} --out {tmp_path / 'pre'} {SIZES} {start} --train.steps 3"
    trained = call("pretrain", f"{training} --engine local")
    said = capsys.readouterr().out
    assert f"{weights}: " in said and "--model.backbone-lr 0.03" in said
    network, values = load_network(Path(trained["checkpoint"]))
    assert values["config"]["model"]["init"] == str(weights)
    start_of = load_file(weights)
    moved = {
        name.partition(".")[0]
        for name, value in library_state(network.backbone).items()
        if not torch.equal(value, start_of[name])
    }
    assert moved == {"blocks"}

    scored = call("evaluate", f"--network {trained['checkpoint']} --frames {STREET} --engine local")
    assert 0 < scored["untrained_miou"] < 1
    local = f"--frames {STREET} --evaluate {STREET}"
    probed = call("probe", f"--network {trained['checkpoint']} {local}")
    assert probed["untrained_linear_ridge"] > 0

    tuned = call(
        "finetune",
        f"--network runs:/{trained['run_id']} {local} --out {tmp_path / 'fine'} --train.steps 2 "
        "--finetune.size 64 128 --finetune.batch-size 2 --finetune.model.freeze 2 --engine local",
    )
    fine = cpcdr.load(tuned["checkpoint"])
    ours = fine.segmenter.module.network.backbone.state_dict()
    kept = {k: v for k, v in network.backbone.state_dict().items() if k.startswith("body.conv")}
    assert kept and all(torch.equal(ours[k], v) for k, v in kept.items())
    exported = call("export", f"--network {tuned['checkpoint']} --out {tmp_path / 'm.onnx'}")
    assert exported["difference"] < 1e-3

    from_run = f"--model.init runs:/{trained['run_id']}"
    again = training.replace("pre ", "again ").replace(start, f"{from_run} --model.backbone-lr 0.5")
    call("pretrain", f"{again} --engine local --tracking none")
    assert "--model.backbone-lr" not in capsys.readouterr().out
    with pytest.raises(InputError, match=r"with other settings: task\.start"):
        call("pretrain", f"{again.replace(trained['run_id'], tuned['run_id'])} --engine local")


def test_a_backbone_that_ends_halfway_to_what_it_learned(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    start = f"--model.init {weights} --model.norm frozen --engine local --tracking none"
    training = f"--data {data} {SIZES} {start} --train.steps 4 --train.checkpoint-every 2"
    whole = call("pretrain", f"{training} --out {tmp_path / 'whole'}")
    half = call("pretrain", f"{training} --out {tmp_path / 'half'} --model.interpolate 0.5")
    (learned, _), (between, _) = (load_network(Path(r["checkpoint"])) for r in (whole, half))
    first, ends = load_file(weights), library_state(learned.backbone)
    for name, value in library_state(between.backbone).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (first[name] + ends[name]) / 2)
    for name, parameter in learned.named_parameters():
        if not name.startswith("backbone."):
            assert torch.equal(parameter, between.get_parameter(name)), name
    assert not torch.equal(learned.projector[1].running_mean, between.projector[1].running_mean)


def test_workers_of_ray_start_from_the_same_weights(
    tmp_path: Path, data: Path, weights: Path, ray_local: Any
) -> None:
    options = f"--data {data} {SIZES} --model.init {weights} --train.steps 2 --tracking none"
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)  # as one worker has: sums depend on it
    alone = call("pretrain", f"{options} --engine local --out {tmp_path / 'a'}")
    torch.set_num_threads(before)
    on_ray = call("pretrain", f"{options} --workers 1 --out {tmp_path / 'b'}")
    ours, theirs = (load_network(Path(r["checkpoint"]))[0].state_dict() for r in (alone, on_ray))
    assert [k for k, v in ours.items() if not torch.equal(v, theirs[k])] == []


def test_searches_and_studies_know_their_start_by_its_content(
    tmp_path: Path, weights: Path
) -> None:
    backbone = "timm:test_efficientnet"
    first, moved = tmp_path / "first.safetensors", tmp_path / "moved.safetensors"
    first.write_bytes(weights.read_bytes())

    def key(start: Path, out: str) -> str:
        model = ModelConfig(backbone, init=str(start))
        pretrain = replace(PretrainConfig().settings(), model=model)
        config = TunePretrainConfig(out=tmp_path / out, evaluate=STREET, pretrain=pretrain)
        return claim_search(config, TRAINING_SPACE, "data")

    search = key(first, "search")
    first.rename(moved)
    assert key(moved, "search") == search, "the same weights elsewhere"
    other = {name: value + 1 for name, value in load_file(moved).items()}
    save_file(other, moved)
    with pytest.raises(InputError, match=r"a search with other settings: pretrain\.model\.init"):
        key(moved, "search")
    small = PretrainConfig().settings()
    plain = replace(small, model=ModelConfig(backbone, init=str(moved)))
    assert identity_of(plain)["model"]["init"] != identity_of(small)["model"]["init"]
    assert identity_of(small) == to_plain(small)
