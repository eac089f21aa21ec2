"""Scores that need frames to fit on, on a network that was never trained, and floors by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.few_labels import name_prototypes
from cpcdr.evaluate.matching import Match, scores
from cpcdr.evaluate.network_scores import (
    Floors,
    NetworkScores,
    PixelKMeans,
    frame_features,
    labelled_features,
)
from cpcdr.evaluate.probes import grid_labels
from cpcdr.evaluate.score_networks import TITLES, score_networks, scores_table
from cpcdr.evaluate.segmenters import open_network
from cpcdr.frames import open_frames
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork

FITTED = "synthetic:streets=3,frames=2,height=64,width=128,seed=7"
SCORED = "synthetic:streets=2,frames=1,height=64,width=128,seed=8"
SIZE = (64, 128)


def test_kmeans_finds_classes_that_are_directions() -> None:
    random = np.random.default_rng(0)
    corners = np.eye(4, dtype=np.float32) * 5
    labels = random.integers(0, 4, (8, 10, 12)).astype(np.uint8)
    kmeans = PixelKMeans(4, 60)
    frames = [torch.from_numpy(corners[each].transpose(2, 0, 1)) for each in labels]
    frames = [f + 0.3 * torch.randn(f.shape, generator=torch.manual_seed(0)) for f in frames]
    for frame in frames:
        kmeans.fit(frame)
    kmeans.finish()
    for frame, each in zip(frames, labels, strict=True):
        kmeans.score(frame, each)
    result = kmeans.result("found")
    assert result["found"] > 0.7 and result["found_sd"] >= 0


@pytest.mark.parametrize("frames", [1, 30, 499, 501, 3000])
def test_kmeans_takes_ten_thousand_pixels_of_any_number_of_frames(frames: int) -> None:
    torch.manual_seed(0)
    config = ModelConfig("resnet10", width=8, fpn_channels=32, head_channels=32, prototypes=8)
    network = SegmentationNetwork(config).eval()
    found = NetworkScores(network, 3, frames, 0, 0)
    image, labels = np.zeros((1, 64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    features = frame_features(network, image)[0]
    for _ in range(frames):
        found.fit(features, labels)
    for name, kmeans in found.kmeans.items():
        pixels = sum(len(some) for some in kmeans.samples)
        assert min(10_000, frames * getattr(features, name)[0].numel()) / 3 < pixels <= 10_000
    assert len(found.labelled) <= 400


def test_floors_by_hand() -> None:
    labels = np.full((16, 16), 1, np.uint8)
    labels[8:] = 0
    labels[:, 12:] = 255
    floors = Floors(2)
    floors.fit(labels)
    floors.score(labels)
    assert floors.result() == {"bands": 1.0, "place": 1.0}
    other = Floors(2)
    other.fit(1 - np.minimum(labels, 1))
    other.score(labels)
    assert other.result() == {"bands": 1.0, "place": 0.0}, "bands see no label, places do"


@pytest.mark.parametrize("per_frame", [0, 40])
def test_every_score_of_a_network(checkpoint: Path, per_frame: int) -> None:
    network = open_network(checkpoint, True)
    sources = open_frames(FITTED), open_frames(SCORED)
    fitted, numbers = score_networks({"": network, "again_": network}, *sources, SIZE, per_frame, 3)
    names = [name for name in TITLES if not name.endswith(("_10", "_20", "_50"))]
    sampled = {"linear_sgd", "knn"}
    assert set(names) - sampled <= numbers.keys()
    assert sampled <= numbers.keys() if per_frame else not sampled & numbers.keys()
    assert all(0 <= value <= 1 for value in numbers.values())
    assert all(numbers[f"again_{name}"] == numbers[name] for name in names if name in numbers)
    table = scores_table({"protocol": "synthetic", **numbers})
    assert f"{100 * numbers['linear_ridge']:.1f}" in table and "equal bands" in table
    few, plain = numbers["few_labels_5"], _named_by_all(fitted[""], network, sources[1])
    assert numbers["few_labels_5_low"] <= few <= numbers["few_labels_5_high"]
    assert abs(few - plain) < 0.15


def test_features_of_several_at_once_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = ModelConfig("resnet10", width=8, fpn_channels=32, head_channels=32, prototypes=8)
    network = SegmentationNetwork(config).eval()
    source = open_frames("synthetic:streets=1,frames=5,height=64,width=128,seed=7")
    frames = [(frame.image, frame.labels) for frame in map(source.read, source.refs())]
    alone = list(labelled_features(network, frames))
    monkeypatch.setattr("cpcdr.evaluate.network_scores.images_at_once", lambda device, size: 2)
    together = list(labelled_features(network, frames))
    for (one, labels), (other, wanted), frame in zip(alone, together, frames, strict=True):
        assert labels is wanted is frame[1]
        for name in ("head", "codes", "backbone", "network"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))


def _named_by_all(fitted: NetworkScores, network, source) -> float:
    """mIoU of prototypes named by all labelled frames, counted in another way."""
    prototypes = network.prototypes.detach()
    names = name_prototypes(np.stack(fitted.labelled).sum(0), prototypes.numpy())
    total = np.zeros((8, 7), np.int64)
    for ref in source.refs():
        frame = source.read(ref)
        codes = frame_features(network, frame.image[None])[0].codes
        nearest = (codes.flatten(1).T @ prototypes.T).argmax(1).numpy()
        grid = grid_labels(frame.labels, codes.shape[-2:]).ravel()
        total += confusion(names[nearest], grid, 8, 7)
    assert Match(names, 7, "few-labels").fold(fitted.used).tolist() == total.tolist()
    return scores(total).miou
