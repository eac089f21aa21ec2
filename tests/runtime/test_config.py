"""Configuration to and from plain data, and what is wrong with a file in one sentence."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.config import config_hash, overlay, read_yaml, to_plain, write_atomic, write_yaml
from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class Inner:
    scale: tuple[float, float] = (0.2, 2.0)
    counts: tuple[int, ...] = (2, 4)
    rate: float = 0.1
    on: bool = True


@dataclass(frozen=True)
class Outer:
    out: Path = Path("runs/x")
    steps: int = 3
    name: str = "a"
    inner: Inner = field(default_factory=Inner)


def test_a_yaml_file_gives_the_same_configuration_back(tmp_path: Path) -> None:
    config = Outer(Path("b/c"), 7, "ö", Inner((0.5, 1.0), (1,), 1e-5, False))
    write_yaml(tmp_path / "deep" / "config.yaml", config)
    assert overlay(Outer(), read_yaml(tmp_path / "deep" / "config.yaml"), "config.yaml") == config
    assert yaml.safe_load(yaml.safe_dump(to_plain(config))) == to_plain(config)


def test_a_part_of_a_nested_configuration_changes_alone() -> None:
    changed = overlay(Outer(), {"inner": {"rate": 1}, "out": "d"}, "f")
    assert changed == Outer(out=Path("d"), inner=Inner(rate=1.0))
    assert isinstance(changed.inner.rate, float)
    assert overlay(Outer(), {}, "f") == Outer()


def test_a_file_may_write_a_size_as_people_do() -> None:
    for text in ("512x288", "512X288", "512×288"):
        assert overlay(PrepareConfig(), {"size": text}, "f").size == (288, 512)
    with pytest.raises(InputError, match=r"f: size must be a list of 2 values, not '512'"):
        overlay(PrepareConfig(), {"size": "512"}, "f")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stepps": 1}, ["f.yaml", "stepps", "out, steps, name, inner"]),
        ({"inner": {"rat": 1}}, ["f.yaml", "inner", "rat"]),
        ({"inner": 3}, ["f.yaml", "inner", "mapping"]),
        ({"steps": "many"}, ["f.yaml", "steps", "int", "many"]),
        ({"steps": 1.5}, ["steps", "int"]),
        ({"steps": True}, ["steps", "int"]),
        ({"name": 5}, ["name", "str"]),
        ({"inner": {"on": 1}}, ["on", "bool"]),
        ({"inner": {"scale": 3.0}}, ["scale", "list of 2 values"]),
        ({"inner": {"scale": [1.0]}}, ["scale", "list of 2 values"]),
        ({"inner": {"scale": ["a", 1.0]}}, ["scale", "float"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        overlay(Outer(), values, "f.yaml")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hash_changes_with_every_value_and_with_nothing_else() -> None:
    base = config_hash(Outer())
    assert len(base) == 12
    assert base == config_hash(to_plain(Outer()))
    assert base == config_hash(dict(reversed(to_plain(Outer()).items())))
    changed = [
        replace(Outer(), out=Path("y")),
        replace(Outer(), steps=4),
        replace(Outer(), inner=Inner(scale=(0.2, 2.1))),
        replace(Outer(), inner=Inner(on=False)),
    ]
    assert len({base, *map(config_hash, changed)}) == 5


@pytest.mark.parametrize("text", [b"a: [1", b"- 1\n- 2\n", b"", b"\xff\xfe\x00", b"x\ty: *z"])
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_yaml(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_yaml(path)


def test_yaml_builds_no_objects(tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.yaml", tmp_path / "witness"
    path.write_text(f"a: !!python/object/apply:os.mkdir ['{witness}']\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"evil\.yaml"):
        read_yaml(path)
    assert not witness.exists()


def test_atomic_writing_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "f.txt"
    write_atomic(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, "new text")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "old"
    write_atomic(path, "newer")
    assert [p.name for p in path.parent.iterdir()] == ["f.txt"]


def test_files_choose_from_closed_sets_and_may_name_no_path() -> None:
    default = PrepareConfig()
    where = "a.yaml"
    chosen = overlay(default, {"engine": "local", "tracking": "none", "regroup": "."}, where)
    assert (chosen.engine, chosen.tracking.tracking) == ("local", "none")
    assert chosen.regroup == Path() and default.regroup is None
    assert overlay(chosen, {"regroup": None}, where).regroup is None
    with pytest.raises(InputError, match=r"a\.yaml: engine must be one of ray, local, not 'dask'"):
        overlay(default, {"engine": "dask"}, where)
    with pytest.raises(InputError, match="tracking: tracking must be one of mlflow, none"):
        overlay(default, {"tracking": {"tracking": "wandb"}}, where)
