"""The record that Ray Train keeps: links on one disk, copies elsewhere, only the newest whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem
from ray.train import Checkpoint

from cpcdr.runtime.errors import InputError
from cpcdr.train.ray_record import RayRecord, record_of

FILES = ("config.yaml", "model.safetensors", "state.pt")


def step(root: Path, number: int) -> Path:
    folder = root / f"step-{number:08d}"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"{name} {number}")
    return folder


@pytest.mark.parametrize("remote", [False, True])
def test_weights_go_with_those_of_the_training(tmp_path: Path, remote: bool) -> None:
    storage, own = tmp_path / "storage", tmp_path / "run" / "checkpoints"
    storage.mkdir()
    system: FileSystem = LocalFileSystem()
    if remote:  # any file system but the local one
        system = SubTreeFileSystem(str(tmp_path), system)
    record = RayRecord(system, "storage" if remote else str(storage), "run", own)
    first = record.keep(Checkpoint.from_directory(str(step(own, 3))), "step-00000003-aa")
    assert first.filesystem == system and first.path == f"{record.root}/step-00000003-aa"
    kept = storage / "run" / "step-00000003-aa"
    assert {p.name: p.read_text() for p in kept.iterdir()} == {n: f"{n} 3" for n in FILES}
    there = own / "step-00000003" / "model.safetensors"
    assert there.samefile(kept / "model.safetensors") is not remote
    for path in (own / "step-00000003").iterdir():
        path.unlink()
    (own / "step-00000003").rmdir()
    record.keep(Checkpoint.from_directory(str(step(own, 6))), "step-00000006-bb")
    assert [path.name for path in kept.iterdir()] == ["config.yaml"]
    assert len(list((storage / "run" / "step-00000006-bb").iterdir())) == 3


def test_where_a_record_lies(tmp_path: Path) -> None:
    a, b = tmp_path / "a" / "pretrain", tmp_path / "b" / "pretrain"
    assert record_of(a, "").root == f"{a}/ray/pretrain"
    names = {record_of(out, str(tmp_path / "storage")).name for out in (a, b)}
    assert len(names) == 2 and all(name.startswith("pretrain-") for name in names)
    with pytest.raises(InputError, match="cannot be reached"):
        record_of(a, "nowhere://bucket/x")
