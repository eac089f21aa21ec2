"""Measuring depth: exact depth has no error, the mean map has, and a network's motion is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cpcdr.checkpoint import write_checkpoint
from cpcdr.config import to_plain
from cpcdr.depth.metrics import eigen_crop
from cpcdr.depth.model import TINY, DepthModel
from cpcdr.errors import InputError
from cpcdr.evaluate.depth import EvaluateDepthConfig, evaluate_depth
from cpcdr.tracking import TrackingConfig

STREET = "synthetic:seed=5,streets=1,frames=6,height=64,width=128"
QUIET = TrackingConfig("none")


def test_exact_depth_has_no_error_and_the_guess_has(tmp_path: Path) -> None:
    config = EvaluateDepthConfig("ground-truth", STREET, out=tmp_path, tracking=QUIET)
    result = evaluate_depth(config)
    assert result["abs_rel"] < 1e-6 and result["d1"] == 1.0
    assert result["guess_abs_rel"] > 0.02 and result["guess_d1"] < 1.0
    assert result["measured_frames"] == 6 and result["rejected"] == 0
    assert json.loads((tmp_path / "report.json").read_text())["abs_rel"] == result["abs_rel"]
    assert (tmp_path / "depth.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_network_is_measured_in_every_way(tmp_path: Path) -> None:
    settings = replace(TINY, channels=8, height=64, width=128, batch_size=2)
    weights = DepthModel(settings).state_dict()
    values = {"kind": "depth", "config": to_plain(settings), "metrics": {"photometric": 1.0}}
    folder = write_checkpoint(tmp_path / "net", 1, values, weights, {})
    config = EvaluateDepthConfig(f"network:{folder}", STREET, out=tmp_path, tracking=QUIET)
    result = evaluate_depth(config)
    assert result["abs_rel"] > 0.05
    assert result["triplets"] > 0 and 0 < result["photometric"] < 1 and 0 < result["identity"] < 1
    assert result["snippets"] == 2 and result["trajectory_error"] >= 0
    assert 0 <= result["straight_error"] < 10
    assert (tmp_path / "trajectory.png").is_file() and (tmp_path / "photometry.png").is_file()


def test_eigen_crop_and_bad_input(tmp_path: Path) -> None:
    inside = eigen_crop((375, 1242))
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (153, 370, 44, 1196)
    with pytest.raises(InputError, match="crop"):
        EvaluateDepthConfig(crop="kitti")
    config = EvaluateDepthConfig(
        "ground-truth", STREET, truth="velodyne:", out=tmp_path, tracking=QUIET
    )
    with pytest.raises(InputError, match="no frame has a true depth"):
        evaluate_depth(config)
