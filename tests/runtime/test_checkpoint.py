"""Checkpoint folders are there whole or not at all, and reading one runs no code."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import cpcdr.runtime.checkpoint as checkpoint
from cpcdr.runtime.checkpoint import (
    newest_checkpoint,
    prune_checkpoints,
    publish_checkpoint,
    read_checkpoint,
    read_state,
    step_folder,
    write_checkpoint,
)
from cpcdr.runtime.errors import InputError

CONFIG = {"kind": "pretrain", "config": {"model": {"prototypes": 3}}}
WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3).t(), "count": torch.tensor(4)}  # a: not contiguous
STATE: dict[str, Any] = {"optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "lr": 0.1}}


def write(root: Path, step: int) -> Path:
    return write_checkpoint(root, step, CONFIG, WEIGHTS, STATE)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "checkpoints", 12)
    assert folder == step_folder(tmp_path / "checkpoints", 12)
    values, weights = read_checkpoint(folder, "pretrain")
    assert values == {**CONFIG, "step": 12}
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    state = read_state(folder)
    assert torch.equal(state["optimizer"]["state"][0]["momentum"], torch.ones(2))


def test_the_newest_is_the_one_with_most_steps(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    for step in (900, 1000, 10):
        write(tmp_path, step)
    assert newest_checkpoint(tmp_path) == step_folder(tmp_path, 1000)


@pytest.mark.parametrize("failing", ["save", "write_yaml"])
def test_a_writer_that_dies_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write(tmp_path, 1)

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, failing, dies)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path) == step_folder(tmp_path, 1)
    write(tmp_path, 2)  # what the dead writer left is no hindrance
    assert newest_checkpoint(tmp_path) == step_folder(tmp_path, 2)
    prune_checkpoints(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000001", "step-00000002"}


def test_pruning_keeps_the_newest_two(tmp_path: Path) -> None:
    for step in range(5):
        write(tmp_path, step)
    (tmp_path / ".step-00000009.1.partial").mkdir()
    prune_checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_the_published_copy_has_no_optimiser_and_replaces_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    for step in (1, 2):
        publish_checkpoint(write(tmp_path / "checkpoints", step), target)
        assert read_checkpoint(target, "pretrain")[0]["step"] == step
    assert {p.name for p in target.iterdir()} == {"model.safetensors", "config.yaml"}


class Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = str(witness)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.witness,)


def evil_files(witness: Path) -> dict[str, bytes]:
    """A bare pickle, and a file in torch's own zip format around one."""
    good, bad = io.BytesIO(), io.BytesIO()
    torch.save({}, good)
    pickled = pickle.dumps(Evil(witness), protocol=2)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return {"pickle": pickled, "zip": bad.getvalue()}


@pytest.mark.parametrize("form", ["pickle", "zip"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    witness = tmp_path / "witness"
    folder = write(tmp_path / "checkpoints", 1)
    data = evil_files(witness)[form]
    (folder / "state.pt").write_bytes(data)
    with pytest.raises(InputError, match=r"state\.pt: cannot be resumed from; delete"):
        read_state(folder)
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="not a safetensors file"):
        read_checkpoint(folder, "pretrain")
    assert not witness.exists()
    # The test would notice: torch does run it when told to.
    torch.load(io.BytesIO(evil_files(witness)["zip"]), weights_only=False)
    assert witness.exists()


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_cut_off_files_are_refused_with_a_sentence(tmp_path: Path, keep: int) -> None:
    folder = write(tmp_path, 1)
    for name in ("state.pt", "model.safetensors"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: min(keep, len(data) - 1)])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_checkpoint(folder, "pretrain")
    with pytest.raises(InputError, match=r"state\.pt"):
        read_state(folder)


def test_the_wrong_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.yaml; give a checkpoint folder"):
        read_checkpoint(tmp_path, "pretrain")
    folder = write(tmp_path, 1)
    with pytest.raises(InputError, match="depth"):
        read_checkpoint(folder, "depth")
    with pytest.raises(InputError, match="kind 'pretrain', not depth or finetune; give one"):
        read_checkpoint(folder, "depth", "finetune")
    for text in ("kind: pretrain\n", "kind: pretrain\nconfig: 3\n", "- 1\n"):
        (folder / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=r"config\.yaml: (has no section|must hold)"):
            read_checkpoint(folder, "pretrain")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        read_checkpoint(folder, "pretrain")
    shutil.rmtree(folder)
    with pytest.raises(InputError):
        read_checkpoint(folder, "pretrain")
