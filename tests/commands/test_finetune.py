"""The fine-tuning command to its end, in this process, and what it says before it trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_tree import camvid_tree, cityscapes_tree

import cpcdr
from cpcdr.commands.finetune import finetune
from cpcdr.frames import FrameOptions
from cpcdr.model.config import ModelConfig
from cpcdr.runtime.checkpoint import read_checkpoint, write_checkpoint
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import EngineConfig, TrainConfig
from cpcdr.train.finetune_config import FinetuneConfig, FinetuneSettings

TRAINING = TrainConfig(steps=2, optimizer="adamw", lr=1e-3, schedule="poly", log_every=1)


def settings(tmp_path: Path, **changes: Any) -> FinetuneConfig:
    """Two steps of a tiny network on the CamVid tree in ``a``, scored on that in ``b``."""
    config = FinetuneConfig(
        frames=f"camvid:{tmp_path / 'a'}",
        evaluate=f"camvid:{tmp_path / 'b'}",
        out=tmp_path / "out",
        window=(64, 96),
        finetune=FinetuneSettings(
            model=ModelConfig("resnet10", 8, 16, 32, 16, 8), size=(64, 128), batch_size=2
        ),
        train=TRAINING,
        engine=EngineConfig("local"),
        tracking=TrackingConfig("none"),
    )
    return replace(config, **changes)


def test_it_trains_scores_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    camvid_tree(tmp_path / "a")
    camvid_tree(tmp_path / "b", seed=4)
    (tmp_path / "a" / "labels" / "A_002.png").write_bytes(b"no image")
    (tmp_path / "b" / "labels" / "A_000.png").write_bytes(b"no image")
    result = finetune(settings(tmp_path))
    said = capsys.readouterr().out
    assert "5 labelled frames, protocol camvid-11" in said
    assert "1 labelled frame left out; first error: " in said and "A_002.png" in said
    assert "no pixel is labelled fence, car, pedestrian and cyclist" in said
    assert result["absent_classes"] == ["fence", "car", "pedestrian", "cyclist"]
    assert result["per_class_iou"]["cyclist"] is None
    present = [iou for iou in result["per_class_iou"].values() if iou is not None]
    assert result["miou"] == pytest.approx(np.mean(present)) and 0 <= result["accuracy"] <= 1
    assert list(result["rejected"]) == ["A/00000002"] and result["labelled_frames"] == 5
    assert result["evaluated_frames"] == 5 and result["evaluate_size"] == [64, 128]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == result
    assert (tmp_path / "out" / "predictions.png").exists()
    network = cpcdr.load(result["checkpoint"])
    assert network.segment(np.zeros((64, 128, 3), np.uint8)).shape == (64, 128)
    again = finetune(settings(tmp_path))
    assert {**again, "seconds": 0} == {**result, "seconds": 0}


def test_cityscapes_with_27_classes_on_its_crop(tmp_path: Path) -> None:
    cityscapes_tree(tmp_path / "a")
    cityscapes_tree(tmp_path / "b", seed=4)
    names = {name: f"cityscapes:{tmp_path / folder}" for name, folder in FOLDERS}
    config = settings(tmp_path, **names, protocol="cityscapes-27", flip=False)
    with pytest.raises(InputError, match=r"--evaluate-size 64 128: .* crop of 320×320"):
        finetune(replace(config, evaluate_size=(64, 128)))
    result = finetune(config)
    assert result["protocol"] == "cityscapes-27" and result["evaluate_size"] == [320, 320]
    assert len(result["per_class_iou"]) == 27 and result["per_class_iou"]["parking"] is not None


FOLDERS = (("frames", "a"), ("evaluate", "b"))


def test_labels_that_cannot_be_scored_on_are_refused_before_the_training(tmp_path: Path) -> None:
    camvid_tree(tmp_path / "a")
    camvid_tree(tmp_path / "b")
    street = "synthetic:streets=2,frames=1,height=64,width=128"
    refused = [
        ({"evaluate": street}, f"{street}: has labels of protocol synthetic"),
        ({"evaluate": f"images:{tmp_path / 'b' / 'images'}"}, "has no labels"),
        ({"protocol": "cityscapes-27"}, "has camvid labels, which protocol cityscapes-27"),
    ]
    for changes, word in refused:
        with pytest.raises(InputError, match=word):
            finetune(settings(tmp_path, **changes))
    for path in (tmp_path / "b" / "labels").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 6 labelled frames .*A_000\.png"):
        finetune(settings(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"window": (-5, 10)}, "--window -5 10"),
        ({"window": (64, 5)}, "--window 64 5"),
        ({"evaluate_size": (-1, 64)}, "--evaluate-size -1 64"),
        ({"evaluate_size": (0, 64)}, "--evaluate-size 0 64"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_sizes_that_cannot_be_name_the_option(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        settings(tmp_path, **changes)


def test_every_score_has_a_hash_of_its_own_and_names_its_data(tmp_path: Path) -> None:
    camvid_tree(tmp_path / "a")
    camvid_tree(tmp_path / "b", seed=4)
    first = finetune(settings(tmp_path))
    frames = {name: f"camvid:{tmp_path / folder}" for name, folder in FOLDERS}
    assert first["data"] == frames and first["protocol"] == "camvid-11"
    hashes = {first["config_hash"]}
    for changes in ({"flip": False}, {"window": (0, 0)}, {"evaluate": frames["frames"]}):
        again = finetune(settings(tmp_path, **changes))
        assert again["checkpoint"] == first["checkpoint"], "it is not trained again"
        hashes.add(again["config_hash"])
    assert len(hashes) == 4


def test_other_frames_or_initial_weights_are_another_training(
    tmp_path: Path, checkpoint: Path
) -> None:
    camvid_tree(tmp_path / "a")
    config = settings(tmp_path, evaluate="")
    config = replace(config, finetune=replace(config.finetune, network=str(checkpoint)))
    first = finetune(config)
    assert finetune(config)["config_hash"] == first["config_hash"]
    with pytest.raises(InputError, match=r"a training with other settings: .*inputs\.options"):
        finetune(replace(config, options=FrameOptions(fov=70.0)))
    values, weights = read_checkpoint(checkpoint, "pretrain")
    other = {name: weight + 1 for name, weight in weights.items()}
    write_checkpoint(checkpoint.parent, values["step"], values, other, {})
    with pytest.raises(InputError, match=r"a training with other settings: .*inputs\.network"):
        finetune(config)
