"""Scores of networks without labels: what is consistent and diverse is worth most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cpcdr.commands.evaluate import evaluate
from cpcdr.dataset import Sample
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.frames import open_frames
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.pretrain_task import PretrainModule
from cpcdr.tune.score import information, magnified, score_network, within

STREET = "synthetic:seed=3,streets=2,frames=2,height=64,width=128"


def test_information_is_agreement_that_says_something() -> None:
    assert information(np.eye(5)) == pytest.approx(1)
    assert information(np.ones((5, 5))) == pytest.approx(0)
    one = np.zeros((5, 5))
    one[2, 2] = 100
    assert information(one) == 0, "one cluster for everything agrees with itself and says nothing"
    noisy = np.eye(5) + 0.1
    assert 0 < information(noisy) < 1
    uneven = np.diag([100.0, 1, 1, 1, 1])
    assert information(uneven) < information(noisy) or information(uneven) < 0.5
    assert information(noisy) == pytest.approx(information(noisy.T))


@pytest.mark.parametrize("seed", range(4))
def test_a_view_knows_which_pixel_it_shows(seed: int) -> None:
    rows, columns = np.indices((60, 120))
    image = np.stack([4 * rows, 2 * columns, 0 * rows], axis=-1).astype(np.uint8)
    view, row, column = magnified(image, seed)
    assert view.shape == image.shape
    inner = (slice(2, -2), slice(2, -2))
    shown = image[row, column]
    assert np.abs(view.astype(int) - shown)[inner].max() <= 4
    assert column[0, 0] > column[0, -1], "it is mirrored"
    assert np.unique(row).size == 40 and np.unique(column).size == 80, "two thirds of it"


def test_pixels_of_a_region_are_paired_with_each_other_only() -> None:
    regions = np.array([[0, 0, 1, 1]])
    apart = within(np.array([[0, 0, 1, 1]]), regions, 3)
    assert np.array_equal(apart, np.diag([2.0, 2, 0]))
    mixed = within(np.array([[0, 1, 0, 1]]), regions, 3)
    assert np.array_equal(mixed[:2, :2], np.ones((2, 2)))


@pytest.mark.slow
def test_miou_is_that_of_evaluate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ModelConfig("resnet10", 8, 16, 32, 16, prototypes=24)
    module = PretrainModule(model, LossConfig())
    config = {"model": to_plain(model), "dataset": {"hash": "", "size": [64, 128]}, "seed": 0}
    checkpoint = write_checkpoint(
        tmp_path, 1, {"kind": "pretrain", "config": config}, module.state_dict(), {}
    )
    source = open_frames(STREET)
    frames = [source.read(ref) for ref in source.refs()]
    samples = [
        Sample(f.ref.frame_id, f.image, *((f.disparity * n).astype(np.uint16) for n in (65535, 9)))
        for f in frames
        if f.disparity is not None
    ]
    found = score_network(checkpoint, frames, "synthetic", samples, clusters=19)
    expected = evaluate(
        EvaluateConfig(
            checkpoint,
            STREET,
            out=tmp_path / "evaluation",
            engine="local",
            baselines=False,
            tracking=TrackingConfig("none"),
        )
    )
    assert found["miou"] == pytest.approx(expected["miou"], abs=1e-9)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-9)
    assert 0 <= found["view_information"] <= 1 and 0 <= found["region_information"] <= 1
    unlabelled = score_network(checkpoint, frames, "", samples, clusters=19)
    assert unlabelled == {k: found[k] for k in ("view_information", "region_information")}
