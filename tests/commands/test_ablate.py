"""The study from end to end: trials through Tune, records, continuation; and its bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_tree import camvid_tree, cityscapes_tree
from mlflow import MlflowClient

from cpcdr.ablate.config import AblateConfig
from cpcdr.commands.ablate import ablate, scored_frames, with_labels_of
from cpcdr.frames import FrameOptions, open_frames
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig

STREET = "synthetic:seed=7,streets=4,frames=2,height=64,width=128"
UNSEEN = "synthetic:seed=11,streets=6,frames=1,height=64,width=128"
TINY = replace(
    PretrainConfig().settings(),
    frames_per_item=2,
    model=ModelConfig("resnet10", 8, 16, 32, 16, 40),
    loss=LossConfig(pixel_points=50, region_points=50, epsilon=0.015),
)


def study(out: Path, **changes: Any) -> AblateConfig:
    base = AblateConfig(
        frames=STREET,
        depth="ground-truth",
        evaluate=UNSEEN,
        size=(64, 128),
        variants=("full", "no-copy-paste"),
        seeds=(0,),
        steps=4,
        cars=2,
        scenes=3,
        out=out,
        pretrain=TINY,
    )
    return replace(base, **changes)


@pytest.mark.slow
def test_a_study_runs_continues_and_records(
    tmp_path: Path, ray_local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("study")
    first = ablate(study(out))
    assert first["protocol"] == "synthetic" and first["trials"] == 3 and not first["failed"]
    assert list(first["variants"]) == ["untrained", "full", "no-copy-paste", "colour k-means"]
    assert first["variants"]["full"]["pasted_fraction"]["mean"] > 0
    assert first["variants"]["no-copy-paste"]["pasted_fraction"]["mean"] == 0
    full = out / "trials" / "full" / "seed-0"
    stamp = (full / "result.json").stat().st_mtime_ns
    before = json.loads((full / "result.json").read_text())
    assert before["miou"] == first["variants"]["full"]["miou"]["values"]["0"]

    # A trial that was killed after its training is measured again, to the same numbers; another
    # that was killed before the end is trained again. What is finished is left alone.
    other = out / "trials" / "no-copy-paste" / "seed-0"
    killed = json.loads((other / "result.json").read_text())
    (other / "result.json").unlink()
    shutil.rmtree(other / "checkpoint")
    second = ablate(study(out, seeds=(0, 1)))
    assert (full / "result.json").stat().st_mtime_ns == stamp
    again = json.loads((other / "result.json").read_text())
    assert {**again, "seconds": 0} == {**killed, "seconds": 0}
    assert second["run_id"] == first["run_id"] and second["trials"] == 6
    for name in ("full", "no-copy-paste"):
        found = second["variants"][name]["miou"]
        assert found["n"] == 2 and found["values"]["0"] != found["values"]["1"]
        assert found["low"] < found["mean"] < found["high"]
    minus = second["variants"]["full"]["miou"]["minus"]["no-copy-paste"]
    assert minus["n"] == 2 and minus["low"] < minus["mean"] < minus["high"]
    written = {path.name for path in out.iterdir() if path.is_file()}
    assert written >= {
        *("table.txt", "table.md", "table.csv", "trials.csv", "report.json"),
        *("scores.png", "features.png", "context.png", "study.yaml"),
    }
    check_records(second, full)
    for path in (out / "trials" / "untrained").glob("*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"context": None}))
    third = ablate(study(out, seeds=(0, 1)))
    assert "context" not in third["variants"]["untrained"], "features that are equal everywhere"
    with pytest.raises(InputError, match="other settings"):
        ablate(study(out, steps=5))
    (full / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result.json: is damaged .*; delete it and run the same"):
        ablate(study(out, seeds=(0, 1)))


def check_records(result: dict[str, Any], folder: Path) -> None:
    client = MlflowClient()
    parent = client.get_run(result["run_id"])
    assert parent.info.status == "FINISHED"
    full = result["variants"]["full"]["miou"]
    assert parent.data.metrics["full/miou"] == pytest.approx(full["mean"])
    means = client.get_metric_history(result["run_id"], "full/miou")
    assert [point.step for point in means] == [3, 6], "the trials that were finished"
    assert means[0].value == pytest.approx(full["values"]["0"])
    children = {
        run.info.run_name: run
        for run in client.search_runs(
            [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{result['run_id']}'"
        )
    }
    trials = {f"{v}-seed-{s}" for v in ("untrained", "full", "no-copy-paste") for s in (0, 1)}
    assert children.keys() - {"prepare synthetic · depth ground-truth"} == trials
    assert all(run.info.status == "FINISHED" for run in children.values())
    child = children["full-seed-0"]
    assert child.data.params["factors.paste"] == "True"
    assert child.data.metrics["miou"] == json.loads((folder / "result.json").read_text())["miou"]
    steps = [p.step for p in client.get_metric_history(child.info.run_id, "loss")]
    assert steps == sorted(set(steps)) and steps[-1] == 4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"variants": ("full", "slick")}, "slick"),
        ({"variants": ()}, "--variants"),
        ({"seeds": (1, 1)}, "--seeds"),
        ({"seeds": ()}, "--seeds"),
        ({"steps": 0}, "--steps"),
        ({"scenes": 1}, "--scenes"),
        ({"evaluate": ""}, "--evaluate"),
        ({"data": Path("somewhere")}, "--data"),
        ({"evaluate": "synthetic:streets=none"}, "streets=none"),
        ({"evaluate": STREET}, "8 frames of .* among those"),
        ({"pretrain": replace(TINY, copy_paste=replace(TINY.copy_paste, pastes=(0, 0)))}, "factor"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        ablate(study(tmp_path, **changes))


def test_frames_without_labels_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((64, 128, 3), 40 * i, np.uint8))
    with pytest.raises(InputError, match="no labels to score on"):
        ablate(study(tmp_path / "a", evaluate=f"images:{folder}"))
    assert not (tmp_path / "a").exists()
    unlabelled = study(
        tmp_path / "b", frames=f"images:{folder}", variants=("full", "objects"), depth="stereo:"
    )
    with pytest.raises(InputError, match="objects"):
        ablate(replace(unlabelled, options=FrameOptions()))
    assert not (tmp_path / "b" / "dataset").exists()


def test_labels_that_cannot_be_read_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    camvid_tree(tmp_path / "tree")
    config = study(tmp_path / "out", evaluate=f"camvid:{tmp_path / 'tree'}")
    with pytest.raises(InputError, match="camvid labels, which protocol cityscapes-27"):
        ablate(replace(config, protocol="cityscapes-27"))
    for path in (tmp_path / "tree" / "labels").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 6 labelled frames .*A_000\.png"):
        ablate(config)
    for path in (tmp_path / "tree" / "labels").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no frame has a label map"):
        ablate(config)
    assert not (tmp_path / "out").exists()


def test_the_protocol_of_the_scores_is_that_of_the_probe_too(tmp_path: Path) -> None:
    cities = cityscapes_tree(tmp_path)
    config = study(tmp_path, evaluate=cities.spec, protocol="cityscapes-27")
    scored = scored_frames(config)
    assert scored.protocol == "cityscapes-27"
    probed = with_labels_of(scored, cities)
    assert probed is not None and probed.protocol == "cityscapes-27"
    assert with_labels_of(scored, open_frames(STREET)) is None
