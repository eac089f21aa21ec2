"""The cheap stage's scores: of sampled pixels, without labels and with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cpcdr.frames import Frame, open_frames
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import superpixel_graph
from cpcdr.regions.grouping import group
from cpcdr.regions.quality import label_quality, overlap
from cpcdr.tune.region_score import (
    FrameGraph,
    consensus,
    frame_graph,
    label_scores,
    on_grid,
    pair_f1,
    partition,
)
from cpcdr.tune.region_stage import draw_sets
from cpcdr.tune.space import REGION_SPACE, Range

CONFIG = RegionConfig(superpixels=10000)


@pytest.fixture(scope="module")
def frame() -> Frame:
    source = open_frames("synthetic:seed=5,streets=1,frames=1,height=96,width=192")
    return source.read(source.refs()[0])


@pytest.fixture(scope="module")
def graph(frame: Frame) -> FrameGraph:
    assert frame.disparity is not None
    return frame_graph(frame.image, frame.disparity, frame.intrinsics, CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"separation": 0.1, "gain": 3.0},
        {"colour_weight": 0.3, "plane_weight": 1.5},
        {"centre_weight": 12.0},
    ],
    ids=str,
)
def test_a_partition_is_that_of_the_whole_frame(
    frame: Frame, graph: FrameGraph, change: dict[str, float]
) -> None:
    config = replace(CONFIG, **change)
    assert frame.disparity is not None and frame.labels is not None
    whole = group(superpixel_graph(frame.image, frame.disparity, frame.intrinsics, config), config)
    found = partition(graph, config)
    assert pair_f1(overlap(found, on_grid(whole))) > 0.999, "sums of terms round differently"
    scores = label_scores(found, frame.labels)
    expected = label_quality(whole, frame.labels).accuracy
    assert scores["accuracy"] == pytest.approx(expected, abs=0.01)


def test_pairs_are_counted_as_pairs() -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, 60), random.integers(0, 6, 60)
    here, there = a[:, None] == a[None], b[:, None] == b[None]
    f1 = 2 * (here & there).sum() / (here.sum() + there.sum())
    assert pair_f1(overlap(a, b)) == pytest.approx(f1)
    assert pair_f1(overlap(a, (a + 1) % 4)) == 1.0, "names do not matter"


def test_consensus_prefers_what_comes_back() -> None:
    """Three noisy copies of a scene of four parts: the scene itself agrees with them most."""
    random = np.random.default_rng(0)
    scene = np.repeat(np.arange(4), 100)
    copies = [np.where(random.random(400) < 0.15, random.integers(0, 8, 400), scene)] * 3
    whole, dust = np.zeros(400, int), np.arange(400) // 5
    found = {n: consensus(x, copies) for n, x in (("scene", scene), ("one", whole), ("dust", dust))}
    assert max(found, key=lambda name: found[name]) == "scene", found


def test_few_superpixels_serve_many_sets() -> None:
    space = {n: r for n, r in REGION_SPACE.items() if n in ("superpixels", "gain", "separation")}
    sets = draw_sets(space, 100, seed=3)
    assert sets == draw_sets(space, 100, seed=3) != draw_sets(space, 100, seed=4)
    assert {s["superpixels"] for s in sets} == {2500, 5000, 10000}
    assert len({s["gain"] for s in sets}) == 100
    ranged = draw_sets({"superpixels": Range("int", (5000, 40000))}, 100, seed=3)
    assert len({s["superpixels"] for s in ranged}) <= 4
