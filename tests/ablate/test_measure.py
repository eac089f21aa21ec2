"""Regions, labelled frames and scores of a study against the functions they must agree with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labelled_tree import camvid_tree
from manifests import write_manifest

from cpcdr.ablate.context import make_context_test, save_context_test
from cpcdr.ablate.datasets import label_components, with_regions
from cpcdr.ablate.labelled import load_frames, store_frames
from cpcdr.ablate.measure import Material, colour_scores, measure
from cpcdr.ablate.outcome import label_notes
from cpcdr.commands.evaluate import evaluate
from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PreparedDataset, read_manifest
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.frames import FrameOptions, open_frames, with_protocol
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.pretrain_task import PretrainModule

SPEC = "synthetic:seed=11,streets=6,frames=1,height=64,width=128"
SIZE = (64, 128)
SILENT = TrackingConfig("none")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    options = FrameOptions(limit=3)
    prepare(PrepareConfig(SPEC, out=out, engine="local", options=options, tracking=SILENT))
    return out


@pytest.mark.parametrize("kind", ["slic", "felzenszwalb", "objects"])
def test_other_regions_of_the_same_frames(prepared: Path, tmp_path: Path, kind: str) -> None:
    manifest = with_regions(prepared, tmp_path / kind, kind)
    before, after = PreparedDataset(prepared), PreparedDataset(tmp_path / kind)
    assert after.frame_ids == before.frame_ids and manifest["regions_are"] == kind
    assert manifest["hash"] != before.manifest["hash"]
    source = with_protocol(open_frames(SPEC, FrameOptions(limit=3)), "synthetic-14")
    counts = [row["num_regions"] for row in before.rows(range(3), ["num_regions"])]
    for sample, old, ref, count in zip(
        after.samples(range(3)), before.samples(range(3)), source.refs(), counts, strict=True
    ):
        np.testing.assert_array_equal(sample.image, old.image)
        np.testing.assert_array_equal(sample.disparity, old.disparity)
        assert (sample.regions != old.regions).any()
        if kind == "objects":
            labels = source.read(ref).labels
            assert labels is not None
            for ids in np.unique(sample.regions):
                assert len(np.unique(labels[sample.regions == ids])) == 1
            np.testing.assert_array_equal(sample.regions, label_components(labels))
        else:
            assert 0.3 * count < sample.regions.max() + 1 < 3 * count
    part = next((tmp_path / kind / "data").glob("*.parquet"))
    stamp = part.stat().st_mtime_ns
    assert with_regions(prepared, tmp_path / kind, kind) == manifest
    assert part.stat().st_mtime_ns == stamp, "a finished dataset is not made again"
    index = pq.read_table(tmp_path / kind / LAYOUT.index).sort_by("frame_id")
    kept = after.rows(range(3), ["num_regions"])
    assert index["num_regions"].to_pylist() == [row["num_regions"] for row in kept]


def test_pieces_touch_at_corners_and_void_is_a_piece() -> None:
    labels = np.array([[1, 1, 255], [2, 1, 2], [2, 2, 1]], np.uint8)
    ids = label_components(labels)
    assert ids.min() == 0 and len(np.unique(ids)) == 3
    assert ids[0, 0] == ids[2, 2] and ids[1, 0] == ids[1, 2]


def test_objects_need_labels(prepared: Path, tmp_path: Path) -> None:
    other = tmp_path / "video"
    with_regions(prepared, other, "slic")
    text = (other / LAYOUT.manifest).read_text()
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 128, 3), np.uint8))
    write_manifest(other, text.replace(SPEC, f"images:{tmp_path}"))
    assert read_manifest(other)["config"]["frames"].startswith("images:")
    with pytest.raises(InputError, match="no labels"):
        with_regions(other, tmp_path / "objects", "objects")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    source = open_frames(SPEC)
    store_frames(source, SIZE, folder / "evaluation")
    store_frames(source, SIZE, folder / "probe", limit=2)
    test = make_context_test(load_frames(folder / "evaluation"), 2, 3)
    if test is not None:
        save_context_test(test, folder / "context.npz")
    return Material(folder / "evaluation", folder / "probe", folder / "context.npz")


def test_stored_frames_are_the_source_s(material: Material) -> None:
    frames, source = load_frames(material.evaluation), open_frames(SPEC)
    assert len(frames) == 6 and frames.protocol.name == "synthetic"
    for i, ref in enumerate(source.refs()):
        frame = source.read(ref)
        np.testing.assert_array_equal(frames.images[i], frame.image)
        np.testing.assert_array_equal(frames.labels[i], frame.labels)
    assert material.probe is not None and len(load_frames(material.probe)) == 2
    stamp = (material.evaluation / "images.npy").stat().st_mtime_ns
    store_frames(source, SIZE, material.evaluation)
    assert (material.evaluation / "images.npy").stat().st_mtime_ns == stamp


def test_frames_that_are_left_out_are_said(tmp_path: Path) -> None:
    source = camvid_tree(tmp_path / "tree")
    (tmp_path / "tree" / "labels" / "A_001.png").write_bytes(b"")
    (tmp_path / "tree" / "labels" / "A_004.png").unlink()
    store_frames(source, SIZE, tmp_path / "frames")
    frames = load_frames(tmp_path / "frames")
    assert len(frames) == 4 and frames.left_out == 2 and "A_001.png is empty" in frames.reason
    absent = frames.absent_classes()
    shown = np.unique(frames.labels)
    assert absent == [name for k, name in enumerate(frames.protocol.classes) if k not in shown]
    lines = label_notes(frames, None, absent)
    assert lines[0].startswith("evaluation: 2 frames left out; first error: ")
    assert "no pixel is labelled" in lines[1] and "cyclist: IoU is undefined" in lines[1]
    assert label_notes(replace(frames, left_out=0), frames, []) == [
        lines[0].replace("evaluation", "linear probe")
    ]


@pytest.mark.slow
def test_a_frame_that_labels_no_pixel_is_left_out(tmp_path: Path) -> None:
    source = camvid_tree(tmp_path / "tree")
    void = np.zeros((64, 128, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "tree" / "labels" / "A_002.png"), void)
    store_frames(source, SIZE, tmp_path / "frames")
    frames = load_frames(tmp_path / "frames")
    assert len(frames) == 5 and "A_002.png labels no pixel" in frames.reason


def test_scores_are_those_of_evaluate(tmp_path: Path, material: Material) -> None:
    torch.manual_seed(4)
    model = ModelConfig("resnet10", 8, 16, 32, 16, 40)
    config = {"model": to_plain(model), "seed": 4, "dataset": {"hash": "x", "size": list(SIZE)}}
    values = {"kind": "pretrain", "config": config}
    weights = PretrainModule(model, LossConfig()).state_dict()
    checkpoint = write_checkpoint(tmp_path, 0, values, weights, {})
    found = measure(checkpoint, material, "average", seed=0)
    asked = EvaluateConfig(checkpoint, SPEC, engine="local", out=tmp_path / "out", tracking=SILENT)
    expected = evaluate(asked)
    assert found["miou"] == found["miou_average"] == pytest.approx(expected["miou"], abs=1e-12)
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)
    spherical = evaluate(replace(asked, clustering="spherical", baselines=False))
    assert found["miou_spherical"] == pytest.approx(spherical["miou"], abs=1e-12)
    colour = colour_scores(material, seed=0)
    assert colour["miou"] == pytest.approx(expected["colour_miou"], abs=1e-12)
    assert found["linear_ridge"] > found["miou"], "the probe has seen labels"
    assert 0 < found["context_moves"] < 2 and found["context"] > 0
    unlabelled = replace(material, probe=None, context=tmp_path / "none")
    assert measure(checkpoint, unlabelled, "ward", 0).keys() == {
        *(
            "miou",
            "accuracy",
            "class_information",
            "miou_average",
            "miou_ward",
            "miou_kmeans",
            "miou_spherical",
        )
    }
