"""Names for prototypes: the checkpoint in use, and the frames that are worth labelling."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

import cpcdr
from cpcdr.commands.name import name
from cpcdr.commands.prepare import prepare
from cpcdr.evaluate.few_labels import name_prototypes
from cpcdr.evaluate.network_scores import frame_features
from cpcdr.frames import open_frames
from cpcdr.model.segmentation import load_network
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.store import tracking_uri
from cpcdr.segment.config import NameConfig
from cpcdr.segment.suggest import Seen, describe, telling_frames, usage_of

LABELLED = "synthetic:streets=3,frames=1,height=64,width=128,seed=70"


def test_a_named_network_segments_as_its_prototypes_say(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "named"
    result = name(NameConfig(checkpoint, LABELLED, out=out))
    printed = capsys.readouterr().out
    for each, count in result["prototypes"].items():
        assert f"{each:20s} {count} of 30 prototypes" in printed
    assert ("none is mostly this" in printed) or ("not in these labels" in printed)
    assert result["frames"] == 3 and sum(result["prototypes"].values()) == 30
    assert (tmp_path / "named.png").stat().st_size > 1000
    loaded = cpcdr.load(out)
    assert loaded.names[:2] == ("flat", "construction") and "7 classes" in repr(loaded)
    network = load_network(out)[0]
    classes = np.array(yaml.safe_load((out / "config.yaml").read_text())["config"]["classes"])
    frame = open_frames(LABELLED).read(open_frames(LABELLED).refs()[0])
    codes = frame_features(network, frame.image[None])[0].codes
    nearest = network.nearest(codes[None], frame.image.shape[:2])[0].numpy()
    found = loaded.segment(frame.image)
    assert (found == classes[nearest]).mean() > 0.99
    assert set(np.unique(found)) <= set(classes.tolist()), "no class without a prototype"
    run = MlflowClient(tracking_uri()).get_run(result["run_id"])
    assert run.info.run_name == "name synthetic" and run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 1 == len(run.outputs.model_outputs)
    assert cpcdr.load(f"runs:/{result['run_id']}").names == loaded.names
    # Run again, it replaces its own checkpoint, and nothing else.
    again = name(NameConfig(checkpoint, LABELLED, out=out))
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
    with pytest.raises(InputError, match="kind 'name', not pretrain"):
        name(NameConfig(out, LABELLED, out=tmp_path / "again"))


def test_nothing_but_a_named_network_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "drive"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    for out in (mine, checkpoint.parent, checkpoint):
        before = sorted(path.name for path in out.iterdir())
        with pytest.raises(InputError, match="is no named network, and would be replaced"):
            name(NameConfig(checkpoint, LABELLED, out=out))
        assert sorted(path.name for path in out.iterdir()) == before
    (tmp_path / "empty").mkdir()
    assert name(NameConfig(checkpoint, LABELLED, out=tmp_path / "empty"))["frames"] == 3


def test_damaged_names_and_frames_without_labels_are_a_sentence(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "named"
    name(NameConfig(checkpoint, LABELLED, out=out))
    values = yaml.safe_load((out / "config.yaml").read_text())
    for classes in (None, [0] * 29, [0] * 29 + [7], [0] * 29 + ["sky"]):
        values["config"]["classes"] = classes
        (out / "config.yaml").write_text(yaml.safe_dump(values))
        with pytest.raises(InputError, match="has no class for each of 30 prototypes"):
            cpcdr.load(out)
    images = tmp_path / "images"
    images.mkdir()
    frame = open_frames(LABELLED).read(open_frames(LABELLED).refs()[0])
    (images / "a.jpg").write_bytes(frame.encoded)
    with pytest.raises(InputError, match="has no labels; give labelled frames, or --data"):
        name(NameConfig(checkpoint, f"images:{images}", out=out))


def test_frames_to_label_and_what_clusters_are_like(checkpoint: Path, tmp_path: Path) -> None:
    frames = "synthetic:streets=3,frames=2,height=64,width=128,seed=5"
    data = tmp_path / "data"
    prepare(PrepareConfig(frames, out=data, engine="local", tracking=TrackingConfig("none")))
    out = tmp_path / "label"
    result = name(NameConfig(checkpoint, data=data, out=out, suggest=4, clusters=5))
    assert len(result["frames"]) == 4 == len(list((out / "frames").glob("*.jpg")))
    assert [text.split()[1] for text in result["clusters"]] == list("01234")
    assert (out / "frames.png").stat().st_size > 1000


def test_the_most_telling_frames_cover_prototypes() -> None:
    random = np.random.default_rng(0)
    usage = random.integers(0, 50, (30, 12)) * (random.random((30, 12)) < 0.3)
    drives = [str(frame) for frame in range(30)]
    chosen = telling_frames(usage, 6, drives)
    assert len(set(chosen)) == 6
    covered = (usage[chosen].sum(0) > 0).sum()
    by_chance = [(usage[random.choice(30, 6, False)].sum(0) > 0).sum() for _ in range(50)]
    assert covered >= np.quantile(by_chance, 0.9)
    assert sorted(telling_frames(usage, 99, drives)) == list(range(30))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4), st.integers(0, 99))
def test_frames_to_label_are_apart_in_their_drive(
    frames: int, count: int, drives: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    usage, drive = random.integers(0, 9, (frames, 5)), np.arange(frames) * drives // frames
    chosen = telling_frames(usage, count, [str(each) for each in drive])
    assert len(set(chosen)) == len(chosen) == min(frames, count)
    for first, second in combinations(sorted(chosen), 2):
        assert second - first >= frames // (2 * count) or drive[first] != drive[second]


def test_a_road_is_flat_and_low_and_a_sky_is_high_and_far() -> None:
    row = np.repeat(np.linspace(0, 1, 30)[:, None], 40, axis=1)
    disparity = np.where(row > 0.5, row - 0.5, 0.001 * np.random.default_rng(0).random(row.shape))
    nearest = np.where(row > 0.66, 0, np.where(row < 0.3, 1, 2))
    nearest[8:20, 10:14] = 3
    disparity[8:20, 10:14] = 0.9
    seen = [Seen(nearest, disparity)]
    words = describe(seen, np.array([0, 1, 2, 3, 4]))
    assert words[0] == "flat, low, near" and words[1] == "upright, high, far"
    assert words[3] == "upright, near" and words[4] == "not seen"
    assert usage_of(seen, 5).tolist() == [np.bincount(nearest.ravel(), minlength=5).tolist()]


def test_prototypes_are_named_as_few_labels_scores_them() -> None:
    counts = np.array([[3, 0], [0, 0]])
    assert name_prototypes(counts, np.eye(2)).tolist() == [0, 0]
