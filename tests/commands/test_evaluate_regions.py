"""Measuring regions end to end: ours beside the alternatives, with and without labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cpcdr.commands.evaluate_regions import OURS, evaluate_regions
from cpcdr.evaluate.config import EvaluateRegionsConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig


@pytest.mark.slow
def test_every_method_is_measured(tmp_path: Path) -> None:
    config = EvaluateRegionsConfig(
        "synthetic:seed=5,streets=2,frames=1,height=96,width=192",
        out=tmp_path,
        regions=RegionConfig(superpixels=40000, plane_weight=1.0),
        tracking=TrackingConfig("none"),
    )
    result = evaluate_regions(config)
    methods = result["methods"]
    assert list(methods) == [OURS, "SLIC", "Felzenszwalb", "depth components"]
    assert result["frames"] == 2
    for row in methods.values():
        assert 0.2 < row["accuracy"] <= 1 and 0 <= row["boundary_recall"] <= 1
    assert methods[OURS]["accuracy"] > 0.7, "exact depth of a street tells its parts apart"
    assert sum(result["sizes"].values()) > 0.99
    assert json.loads((tmp_path / "report.json").read_text())["frames"] == 2
    assert (tmp_path / "regions.png").stat().st_size > 1000
    alone = evaluate_regions(replace(config, alternatives=False))
    assert list(alone["methods"]) == [OURS]
