"""A measurement's hash holds what its input files contain, not only their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from labelled_tree import camvid_tree

from cpcdr.commands.evaluate import evaluate
from cpcdr.commands.evaluate_depth import evaluate_depth
from cpcdr.commands.evaluate_regions import evaluate_regions
from cpcdr.commands.probe import probe
from cpcdr.evaluate.config import (
    EvaluateConfig,
    EvaluateDepthConfig,
    EvaluateRegionsConfig,
    ProbeConfig,
)
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig

QUIET = TrackingConfig("none")
Command = Callable[[Path, Path, Path], Mapping[str, Any]]


def regions(tree: Path, checkpoint: Path, out: Path) -> Mapping[str, Any]:
    settings = RegionConfig(superpixels=4000)
    frames, depth = f"camvid:{tree}", f"precomputed:{tree / 'depth'}"
    return evaluate_regions(
        EvaluateRegionsConfig(
            frames, depth, out=out, regions=settings, alternatives=False, tracking=QUIET
        )
    )


def depth(tree: Path, checkpoint: Path, out: Path) -> Mapping[str, Any]:
    source = f"precomputed:{tree / 'depth'}"
    return evaluate_depth(
        EvaluateDepthConfig(source, f"camvid:{tree}", truth=source, out=out, tracking=QUIET)
    )


def clusters(tree: Path, checkpoint: Path, out: Path) -> Mapping[str, Any]:
    return evaluate(
        EvaluateConfig(checkpoint, f"camvid:{tree}", out=out, baselines=False, tracking=QUIET)
    )


def probes(tree: Path, checkpoint: Path, out: Path) -> Mapping[str, Any]:
    return probe(
        ProbeConfig(checkpoint, f"camvid:{tree}", f"camvid:{tree}", out=out, tracking=QUIET)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "file"),
    [
        (regions, "labels/A_002.png"),
        (regions, "depth/A/00000002.png"),
        (depth, "depth/A/00000002.png"),
        (clusters, "labels/A_002.png"),
        (probes, "images/A_002.jpg"),
    ],
)
def test_another_content_is_another_hash(
    tmp_path: Path, checkpoint: Path, command: Command, file: str
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    camvid_tree(tree)
    (tree / "depth" / "A").mkdir(parents=True)
    ramp = np.tile(np.linspace(9000, 40000, 64, dtype=np.uint16)[:, None], (1, 128))
    for i in range(6):
        assert cv2.imwrite(str(tree / "depth" / "A" / f"{i:08d}.png"), ramp + i)
    result = command(tree, checkpoint, out)
    if command is not depth:  # which needs no labels
        assert f"camvid:{tree}" in result["data"].values() and result["protocol"] == "camvid-11"
    first = result["config_hash"]
    assert command(tree, checkpoint, out)["config_hash"] == first
    other = tree / file.replace("2.", "3.")
    (tree / file).write_bytes(other.read_bytes())
    assert command(tree, checkpoint, out)["config_hash"] != first
