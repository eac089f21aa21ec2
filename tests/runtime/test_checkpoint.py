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
import yaml

import cpcdr.runtime.checkpoint as checkpoint
from cpcdr.runtime.checkpoint import (
    check_checkpoint,
    newest_checkpoint,
    newest_whole_checkpoint,
    prune_checkpoints,
    publish_checkpoint,
    read_checkpoint,
    read_state,
    set_damaged_aside,
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
    assert values.pop("digests").keys() == {"config.yaml", "model.safetensors", "state.pt"}
    assert values == {**CONFIG, "step": 12, "format": 1}
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
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "step": 1}))  # and no digests
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


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "config.yaml"])
def test_one_flipped_bit_is_noticed_and_the_checkpoint_before_is_taken(
    tmp_path: Path, name: str
) -> None:
    before, newest = write(tmp_path, 1), write(tmp_path, 2)
    check_checkpoint(newest)
    data = bytearray((newest / name).read_bytes())
    at = data.index(b"prototypes: 3") + 12 if name == "config.yaml" else len(data) - 9
    data[at] ^= 1
    (newest / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: is damaged"):
        check_checkpoint(newest)
    if name == "model.safetensors":
        with pytest.raises(InputError, match="is damaged"):
            read_checkpoint(newest, "pretrain")
    if name == "state.pt":
        with pytest.raises(InputError, match="is damaged"):
            read_state(newest)
    assert newest_checkpoint(tmp_path) == newest
    assert newest_whole_checkpoint(tmp_path) == before
    (sentence,) = set_damaged_aside(tmp_path)
    assert sentence.startswith(f"{newest}: is damaged; resuming from step-00000001")
    assert newest_checkpoint(tmp_path) == before and set_damaged_aside(tmp_path) == []
    write(tmp_path, 2)
    prune_checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_nothing_is_trained_anew_in_silence_where_all_checkpoints_are_damaged(
    tmp_path: Path,
) -> None:
    assert newest_whole_checkpoint(tmp_path) is None
    (write(tmp_path, 1) / "state.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="no checkpoint can be resumed from"):
        set_damaged_aside(tmp_path)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("format: 1", "format: 2"))
    for read in (check_checkpoint, lambda folder: read_checkpoint(folder, "pretrain")):
        with pytest.raises(InputError, match="has format 2, and this version of cpcdr reads up to"):
            read(folder)


def test_bytes_and_names_are_on_the_disk_before_a_checkpoint_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"rename {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    folder = write(tmp_path / "root", 3)
    published = events.index(f"rename {folder.name}")
    partial = f".{folder.name}.{os.getpid()}.partial"
    for name in ("model.safetensors", "state.pt", ".config.yaml.partial", partial):
        assert events.index(f"sync {name}") < published
    assert events[published + 1 :] == ["sync root"]


@pytest.mark.parametrize("state", [[1, 2], 3, torch.zeros(2)])
def test_a_state_that_is_no_dict_is_refused(tmp_path: Path, state: Any) -> None:
    folder = write_checkpoint(tmp_path, 1, {"kind": "depth", "config": {}}, {}, state)
    with pytest.raises(InputError, match=r"state\.pt: cannot be resumed from"):
        read_state(folder)
