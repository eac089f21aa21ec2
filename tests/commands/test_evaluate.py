"""The evaluation command, without Ray, on a network that was never trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from numpy.typing import NDArray

from cpcdr.commands.evaluate import _train_frames, evaluate
from cpcdr.evaluate.clusters import METHODS
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.evaluate.report import table
from cpcdr.evaluate.segmenters import open_network
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.runtime.checkpoint import read_checkpoint, write_checkpoint
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

STREET = "synthetic:streets=2,frames=2,height=64,width=128,seed=7"


def settings(checkpoint: Path, **changes: object) -> EvaluateConfig:
    config = EvaluateConfig(checkpoint, STREET, engine="local", tracking=TrackingConfig("none"))
    return replace(config, **changes)  # type: ignore[arg-type]


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
def test_every_clustering_and_the_spread_over_frames_are_reported(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(settings(checkpoint, baselines=False), tracking=TrackingConfig())
    result = evaluate(config)
    low, high = result["miou_interval"]["low"], result["miou_interval"]["high"]
    assert low < result["miou"] < high and result["miou_interval"]["over"] == "4 frames"
    for method in METHODS:  # each as if it had been asked for
        alone = evaluate(settings(checkpoint, baselines=False, clustering=method))
        assert alone["miou"] == result["miou_by_clustering"][method]
        assert alone["miou_by_clustering"] == result["miou_by_clustering"]
    found = result["miou_by_clustering"].values()
    assert result["miou_range"] == {"min": min(found), "max": max(found)}
    assert result["majority_miou"] > 0
    run = MlflowClient().get_run(result["run_id"])
    metrics = run.data.metrics
    assert metrics["miou_by_clustering/ward"] == result["miou_by_clustering"]["ward"]
    assert metrics["miou_interval/high"] == high
    assert metrics["majority_miou"] == result["majority_miou"]
    printed = table(result)
    assert all(f"clustered by {method}" in printed for method in METHODS)
    assert "majority vote" in printed and "95 % interval over 4 frames" in printed
    assert "k-means on colour" not in printed, "baselines were not asked for"


def test_frames_to_fit_on_give_all_scores(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = "synthetic:streets=3,frames=2,height=64,width=128,seed=70"
    asked = replace(settings(checkpoint), train_frames=fitted)
    result = evaluate(asked)
    for name in ("pixel_kmeans", "few_labels_1", "few_labels_5", "linear_ridge", "bands", "place"):
        assert 0 < result[name] <= 1
    assert result["linear_ridge"] > result["untrained_miou"]
    printed = capsys.readouterr().out
    assert "prototypes named by 5 labelled frames" in printed and "equal bands" in printed
    assert result["miou"] == evaluate(settings(checkpoint))["miou"]
    with pytest.raises(InputError, match=r"--train-frames .*: 4 of them are scored on"):
        evaluate(replace(asked, train_frames=asked.frames))


@pytest.mark.slow
def test_actors_of_ray_count_what_this_process_counts(checkpoint: Path, ray_local: object) -> None:
    local = evaluate(settings(checkpoint))
    ray = evaluate(replace(settings(checkpoint), engine="ray"))
    assert {**ray, "seconds": 0} == {**local, "seconds": 0}


@pytest.mark.slow
def test_frames_without_labels_leave_miou_null(checkpoint: Path, tmp_path: Path) -> None:
    street, folder = open_frames(STREET), tmp_path / "images"
    folder.mkdir()
    for i, ref in enumerate(street.refs()):
        (folder / f"{i}.jpg").write_bytes(street.read(ref).encoded)
    result = evaluate(
        EvaluateConfig(
            network=checkpoint,
            frames=f"images:{folder}",
            engine="local",
            tracking=TrackingConfig("none"),
        )
    )
    assert result["protocol"] is None and result["miou"] is None and result["colour_miou"] is None
    assert result["clusters_used"] >= 1 and np.isfinite(result["cluster_entropy"])
    about_labels = {"miou_interval", "miou_by_clustering", "majority_miou", "per_class_iou"}
    assert not about_labels & result.keys()
    assert "4 frames at 64×128 without labels" in table(result)


def test_unusable_checkpoints_and_protocols_are_sentences(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml"):
        evaluate(settings(tmp_path / "nothing"))
    with pytest.raises(InputError, match="synthetic"):
        evaluate(settings(checkpoint, protocol="cityscapes-19"))
    with pytest.raises(InputError, match=r"--size 64 64: protocol cityscapes-27 .* 320×320"):
        city = cityscapes(tmp_path / "city", np.full((64, 128), 26))
        evaluate(settings(checkpoint, frames=city, protocol="cityscapes-27", size=(64, 64)))


def test_options_hold_for_the_frames_to_fit_on_too(checkpoint: Path) -> None:
    options = FrameOptions(limit=2)
    frames = "synthetic:streets=4,frames=1,height=64,width=128,seed="
    config = EvaluateConfig(checkpoint, frames + "8", frames + "7", options=options)
    fitted = _train_frames(config, open_frames(config.frames, options))
    assert fitted is not None and len(fitted.refs()) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": (7, 9)}, "--size 7 9 is too small"),
        ({"size": (-5, 9)}, "--size -5 9 is too small"),
        ({"size": (0, 96)}, "--size 0 96 is too small"),
    ],
)
def test_impossible_settings_are_sentences(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EvaluateConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    ["{}", "{dataset: null, seed: 0}", "{dataset: {size: [0, 9]}, seed: 0}", "{seed: 0}"],
)
def test_a_checkpoint_that_does_not_say_how_it_was_trained(checkpoint: Path, config: str) -> None:
    (checkpoint / "config.yaml").write_text(f"kind: pretrain\nconfig: {config}\n")
    with pytest.raises(InputError, match=r"config\.yaml: lacks the frame size"):
        evaluate(settings(checkpoint))


def cityscapes(root: Path, *label_maps: NDArray) -> str:
    """A tree with these label maps and grey images; without any, one image without labels."""
    image, label = root / "leftImg8bit" / "val" / "a", root / "gtFine" / "val" / "a"
    image.mkdir(parents=True)
    label.mkdir(parents=True)
    for i, ids in enumerate(label_maps or (None,)):
        grey = np.full((64, 128, 3), 90 + i, np.uint8)
        cv2.imwrite(str(image / f"a_000000_{i:06d}_leftImg8bit.png"), grey)
        if ids is not None:
            file = label / f"a_000000_{i:06d}_gtFine_labelIds.png"
            cv2.imwrite(str(file), ids.astype(np.uint8))
    return f"cityscapes:{root}"


def test_sets_without_any_label_are_named(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    without = cityscapes(tmp_path / "without")
    with pytest.raises(InputError, match=f"{without}: no frame has a label map"):
        evaluate(settings(checkpoint, frames=without))
    assert "evaluate:" not in capfd.readouterr().err, "said before the pass"
    void = cityscapes(tmp_path / "void", np.zeros((64, 128)))
    with pytest.raises(InputError, match=f"{void}: no pixel of its 1 frames has a label"):
        evaluate(settings(checkpoint, frames=void, baselines=False))


def test_absent_classes_and_train_ids_are_said(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.arange(64 * 128).reshape(64, 128) % 19
    wrong = cityscapes(tmp_path / "wrong", ids, ids[::-1])
    result = evaluate(settings(checkpoint, frames=wrong, baselines=False))
    assert "car" in result["absent_classes"] and result["per_class_iou"]["car"] is None
    printed = capsys.readouterr().out
    assert f"{wrong}: no pixel is labelled traffic light, " in printed
    assert "as if they held train ids" in printed
    right = cityscapes(tmp_path / "right", np.where(ids < 9, 26, 7))
    evaluate(settings(checkpoint, frames=right, baselines=False))
    printed = capsys.readouterr().out
    assert "no pixel is labelled sidewalk, " in printed and "train ids" not in printed


@pytest.mark.slow
def test_a_retrained_network_at_the_same_path_is_another_evaluation(checkpoint: Path) -> None:
    given = replace(settings(checkpoint, baselines=False), tracking=TrackingConfig())
    first, again = evaluate(given), evaluate(given)
    assert again["run_id"] == first["run_id"] and again["config_hash"] == first["config_hash"]
    torch.manual_seed(99)
    values, weights = read_checkpoint(checkpoint, "pretrain")
    other = {name: torch.rand_like(w) if w.ndim > 1 else w for name, w in weights.items()}
    config = {"kind": "pretrain", "config": values["config"]}
    assert write_checkpoint(checkpoint.parent, values["step"], config, other, {}) == checkpoint
    second = evaluate(given)
    assert second["config_hash"] != first["config_hash"] and second["run_id"] != first["run_id"]
    assert second["miou"] != first["miou"]
    for result in (first, second):
        metrics = MlflowClient().get_run(result["run_id"]).data.metrics
        assert metrics["miou"] == result["miou"]
