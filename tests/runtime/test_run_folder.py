"""Folders that hold something: going on, what changed, and what cannot be a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpcdr.runtime.config import read_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.run_folder import check_folder, claim, is_empty

IDENTITY = {"kind": "pretrain", "train": {"steps": 4, "lr": 0.1, "log_every": 5}, "size": (1, 2)}


def again(out: Path, free: tuple[str, ...] = (), **train: object) -> str:
    identity = IDENTITY | {"train": {**IDENTITY["train"], **train}}  # type: ignore[dict-item]
    return claim(out, "run.yaml", identity, "a training", free)


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    out = tmp_path / "a" / "run"
    digest = again(out)
    assert read_yaml(out / "run.yaml")["hash"] == digest == again(out)
    free = ("train.log_every",)
    other = tmp_path / "free"
    assert again(other, free) == again(other, free, log_every=50)


def test_the_sentence_says_what_changed_and_what_to_do(tmp_path: Path) -> None:
    again(tmp_path)
    words = r"holds a training with other settings: train\.steps 4 -> 8, train\.lr 0\.1 -> 0\.2 \("
    with pytest.raises(InputError, match=words + r"see .*run\.yaml\); give another --out, or del"):
        again(tmp_path, steps=8, lr=0.2)
    with pytest.raises(InputError, match=r"train\.a unset -> 1 and 2 more \("):
        again(tmp_path, steps=8, lr=0.2, a=1, b=2, c=3)
    with pytest.raises(InputError, match=r"settings: train\.steps 4 -> 8 \("):
        again(tmp_path, ("train.lr",), steps=8, lr=0.2)


@pytest.mark.parametrize("content", ["hash: [", "- a list\n", "\x00\xff"])
def test_settings_that_cannot_be_read_are_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_bytes(content.encode("latin1"))
    with pytest.raises(InputError, match=r"run\.yaml: cannot be read.*give another --out"):
        again(tmp_path)


def test_what_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(tmp_path / "nowhere")
    for out, words in (
        (file, "file: is a file, not a folder"),
        (file / "run", "file is a file, not a folder"),
        (link, "is a link to .*nowhere, which does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            again(out)
    check_folder(tmp_path / "not" / "yet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        again(tmp_path / "run")


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    assert is_empty(tmp_path) and not is_empty(tmp_path / "none")
    again(tmp_path)
    assert not is_empty(tmp_path)
