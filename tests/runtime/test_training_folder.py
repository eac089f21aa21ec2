"""Which checkpoint the folder of a training leads to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from cpcdr.depth.sources import open_depth
from cpcdr.runtime.checkpoint import read_checkpoint, step_folder, write_checkpoint
from cpcdr.runtime.config import write_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.training_folder import refuse_unfinished, usable_checkpoint


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a training that logged step 5 of 40."""
    folder = tmp_path / "depth"
    folder.mkdir()
    write_yaml(folder / "run.yaml", {"hash": "x", "kind": "depth", "train": {"steps": 40}})
    (folder / "progress.json").write_text(json.dumps({"step": 5, "total": 40, "loss": 0.1}))
    return folder


def write(out: Path, step: int) -> Path:
    config = {"kind": "depth", "config": {}}
    return write_checkpoint(
        out / "checkpoints", step, config, {"a": torch.full((2,), float(step))}, {}
    )


@pytest.mark.parametrize("given", ["", "checkpoint", "checkpoints"])
def test_the_newest_of_an_interrupted_training(
    out: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(out, 2), write(out, 4)
    used = usable_checkpoint(out / given)
    assert read_checkpoint(used, "depth")[1]["a"].tolist() == [4.0, 4.0]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "stopped at step 5 of 40" in said and "of step 4" in said
    assert "run the same cpcdr train-depth command again" in said and str(used) in said


def test_it_stays_when_the_training_continues(out: Path) -> None:
    write(out, 2)
    used = usable_checkpoint(out)
    shutil.rmtree(step_folder(out / "checkpoints", 2))
    assert read_checkpoint(used, "depth")[0]["step"] == 2
    write(out, 4)
    assert read_checkpoint(usable_checkpoint(out), "depth")[0]["step"] == 4
    assert usable_checkpoint(used) == used  # what the sentence named is that for ever


def test_without_a_checkpoint(out: Path) -> None:
    with pytest.raises(InputError, match=r"stopped at step 5 of 40 and has no checkpoint yet: run"):
        usable_checkpoint(out)
    (out / "progress.json").unlink()
    with pytest.raises(InputError, match="stopped before its end and has no checkpoint"):
        usable_checkpoint(out / "checkpoint")


def test_weights_that_a_training_writes_at_its_end(out: Path) -> None:
    write(out, 4)
    with pytest.raises(InputError, match=r"stopped at step 5 of 40: run the same cpcdr train-d"):
        refuse_unfinished(out)
    with pytest.raises(InputError, match=r"stopped at step 5 of 40: run the same"):
        open_depth(f"street:{out / 'street.safetensors'}")
    shutil.copytree(write(out, 40), out / "checkpoint")
    refuse_unfinished(out)


def test_while_it_runs(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(out):
        with pytest.raises(InputError, match=r"running at step 5 of 40 \(process \d+ .*: wait"):
            usable_checkpoint(out)
        write(out, 4)
        assert usable_checkpoint(out).name == "step-00000004"
    said = capsys.readouterr().out
    assert "is still running at step 5 of 40" in said and "wait for it" in said


def test_a_damaged_one_is_passed_over(out: Path) -> None:
    write(out, 2)
    (write(out, 4) / "model.safetensors").write_bytes(b"half")
    assert read_checkpoint(usable_checkpoint(out), "depth")[0]["step"] == 2


def test_of_a_finished_training_the_finished_one(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(write(out, 40), out / "checkpoint")
    for given in (out, out / "checkpoint", out / "checkpoints"):
        assert usable_checkpoint(given) == out / "checkpoint"
    assert capsys.readouterr().out == ""


def test_other_folders_are_left_to_their_readers(out: Path, tmp_path: Path) -> None:
    checkpoint = write(out, 2)
    write_yaml(tmp_path / "run.yaml", {"hash": "x", "video": "drive.mp4"})  # of cpcdr run
    for other in (checkpoint, tmp_path, tmp_path / "nowhere", tmp_path / "checkpoint"):
        assert usable_checkpoint(other) == other
