"""Using networks: fine-tuned and pre-trained ones, in memory, as video, as labels, as ONNX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cpcdr
from cpcdr.checkpoint import write_checkpoint
from cpcdr.config import to_plain
from cpcdr.errors import InputError
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.export import ExportConfig, export
from cpcdr.frames import get_protocol, open_frames
from cpcdr.loss import LossConfig
from cpcdr.model import ModelConfig
from cpcdr.segment.video import SegmentConfig, segment
from cpcdr.train.finetune_task import FinetuneModule, FinetuneSettings
from cpcdr.train.pretrain_task import PretrainModule

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 40)
STREET = "synthetic:seed=3,streets=2,frames=3,height=64,width=128"
PROTOCOL = get_protocol("synthetic")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = FinetuneModule(MODEL, len(PROTOCOL.classes)).state_dict()
    settings = FinetuneSettings(model=MODEL, size=(64, 128))
    values = {"kind": "finetune", "config": {**to_plain(settings), "protocol": "synthetic"}}
    return write_checkpoint(tmp_path_factory.mktemp("finetuned"), 1, values, weights, {})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = PretrainModule(MODEL, LossConfig()).state_dict()
    config = {"model": to_plain(MODEL), "seed": 0, "dataset": {"hash": "x", "size": [64, 128]}}
    values = {"kind": "pretrain", "config": config}
    return write_checkpoint(tmp_path_factory.mktemp("pretrained"), 1, values, weights, {})


def test_three_lines_in_a_notebook(finetuned: Path, pretrained: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (150, 260, 3)).astype(np.uint8)
    network = cpcdr.load(finetuned)
    ids = network.segment(image)
    assert ids.dtype == np.uint8 and ids.shape == (150, 260) and network.names == PROTOCOL.classes
    assert ids.max() < len(network.names)
    assert network.overlay(image).shape == image.shape
    assert cpcdr.load(pretrained).names[3] == "cluster 3"


def test_windows_and_flips_agree_with_the_whole_where_they_must(finetuned: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    plain, window = ClassSegmenter(finetuned, flip=False), ClassSegmenter(finetuned, (64, 128))
    plain.load()
    window.load()
    mirrored = window.segment(image[:, ::-1])[:, ::-1]
    assert (mirrored == window.segment(image)).mean() > 0.999, "flip averaging is symmetric"
    whole = replace(window, window=(0, 0))
    whole.load()
    np.testing.assert_array_equal(whole.segment(image), window.segment(image))
    small = ClassSegmenter(finetuned, (32, 64), flip=False)
    small.load()
    assert small.segment(image).shape == (64, 128)


@pytest.mark.slow
def test_a_video_and_label_maps(tmp_path: Path, finetuned: Path) -> None:
    config = SegmentConfig(str(finetuned), STREET, tmp_path / "a" / "out.mp4", engine="local")
    result = segment(config)
    assert result["frames"] == 6 and result["rejected"] == 0
    video = cv2.VideoCapture(str(config.out))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == 6
    assert {p.name for p in config.out.parent.iterdir()} == {"out.mp4", "legend.png"}
    folder = segment(replace(config, out=tmp_path / "b"))
    assert len(list((tmp_path / "b").glob("street-*.mp4"))) == 2 and folder["frames"] == 6
    segment(replace(config, out=tmp_path / "c", labels=True))
    refs = open_frames(STREET).refs()
    maps = [cv2.imread(str(tmp_path / "c" / f"{r.frame_id}.png"), -1) for r in refs]
    assert all(m.shape == (64, 128) and m.dtype == np.uint8 and m.max() < 7 for m in maps)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
def test_onnx_agrees(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    folder = request.getfixturevalue(kind)
    result = export(ExportConfig(str(folder), tmp_path / "model.onnx"))
    assert result["difference"] < 1e-3
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".onnx"] == ["model.onnx"]


@pytest.mark.slow
def test_the_registry_brings_it_back(tmp_path: Path, finetuned: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    config = ExportConfig(str(finetuned), tmp_path / "model.onnx", register="streets")
    assert export(config)["uri"] == "models:/streets@champion"
    image = np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    again = cpcdr.load("models:/streets@champion")
    np.testing.assert_array_equal(again.segment(image), cpcdr.load(finetuned).segment(image))


@pytest.mark.slow
def test_bad_models_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.yaml"):
        cpcdr.load(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        cpcdr.load("runs:/0123456789abcdef0123456789abcdef")
    (tmp_path / "config.yaml").write_text("kind: depth\nconfig: {}\n")
    with pytest.raises(InputError, match="kind 'depth'"):
        cpcdr.load(tmp_path)
