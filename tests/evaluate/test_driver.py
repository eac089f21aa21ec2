"""The evaluation command, without Ray, on a network that was never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cpcdr.checkpoint import write_checkpoint
from cpcdr.config import to_plain
from cpcdr.errors import InputError
from cpcdr.evaluate.driver import EvaluateConfig, SegmentFrames, evaluate
from cpcdr.evaluate.segmenters import open_network
from cpcdr.frames import open_frames
from cpcdr.loss import LossConfig
from cpcdr.model import ModelConfig
from cpcdr.tracking import TrackingConfig
from cpcdr.train.pretrain_task import PretrainModule

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 30)
STREET = "synthetic:streets=2,frames=2,height=64,width=128,seed=7"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    module = PretrainModule(MODEL, LossConfig())
    values = {"model": to_plain(MODEL), "seed": 3, "dataset": {"hash": "x", "size": [64, 128]}}
    config = {"kind": "pretrain", "config": values}
    return write_checkpoint(tmp_path / "checkpoints", 0, config, module.state_dict(), {})


def settings(checkpoint: Path, **changes: object) -> EvaluateConfig:
    return EvaluateConfig(
        checkpoint=checkpoint,
        frames=STREET,
        engine="local",
        tracking=TrackingConfig("none"),
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_untrained_weights_score_as_the_untrained_network(checkpoint: Path) -> None:
    result = evaluate(settings(checkpoint))
    assert result["protocol"] == "synthetic" and result["frames"] == 4
    assert result["miou"] == pytest.approx(result["untrained_miou"])
    assert 0 < result["colour_miou"] < 1 and set(result["per_class_iou"]) >= {"flat", "sky"}
    report = checkpoint.parent / "evaluation"
    assert (report / "report.json").exists() and (report / "predictions.png").exists()


def test_the_untrained_network_is_rebuilt_from_its_seed(checkpoint: Path) -> None:
    network, rebuilt = open_network(checkpoint, True), open_network(checkpoint, False)
    for a, b in zip(network.parameters(), rebuilt.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_frames_without_labels_leave_miou_null(checkpoint: Path, tmp_path: Path) -> None:
    street, folder = open_frames(STREET), tmp_path / "images"
    folder.mkdir()
    for i, ref in enumerate(street.refs()):
        (folder / f"{i}.jpg").write_bytes(street.read(ref).encoded)
    result = evaluate(
        EvaluateConfig(
            checkpoint=checkpoint,
            frames=f"images:{folder}",
            engine="local",
            tracking=TrackingConfig("none"),
        )
    )
    assert result["protocol"] is None and result["miou"] is None and result["colour_miou"] is None
    assert result["clusters_used"] >= 1 and np.isfinite(result["cluster_entropy"])


def test_a_broken_frame_is_left_out_and_said(checkpoint: Path) -> None:
    source = open_frames(STREET)
    actor = SegmentFrames(source, (64, 128), {}, (7, 7))
    ref = source.refs()[0]
    broken = type(ref)(ref.sequence, 99)
    assert "99" in actor.count(broken)["reason"]


def test_unusable_checkpoints_and_protocols_are_sentences(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml"):
        evaluate(settings(tmp_path / "nothing"))
    with pytest.raises(InputError, match="synthetic"):
        evaluate(settings(checkpoint, protocol="cityscapes-19"))
