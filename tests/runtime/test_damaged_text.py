"""YAML, JSON lines and names of files from elsewhere: what cannot be used is said in a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cpcdr.runtime.config import overlay, read_yaml, write_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.storage import file_inside
from cpcdr.runtime.strict_json import read_json
from cpcdr.runtime.yaml_loader import load_yaml
from cpcdr.train.history import read_history
from cpcdr.tune.ledger import Ledger
from cpcdr.tune.space import read_space


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    count: int = 3
    folder: Path = Path()
    name: str = ""


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 65536 values"),
        ("a: &a [*a]", "the value &a contains itself"),
        ("a: *b", "undefined alias"),
        ("a: " + "[" * 500 + "]" * 500, "more than 32 levels deep"),
        ("a: " + "[" * 100_000, "more than 32 levels deep"),
        ("rate: 1\nrate: 2\n", "'rate' is there twice, line 2"),
        ("a: " + "9" * 5000, "is not a YAML file"),
        ("a: !!python/object/apply:os.system [ls]", "is not a YAML file"),
        ("? [1, 2]\n: 3\n", "is not a YAML file"),
        ("a: b: c", "is not a YAML file"),
        ("# " + "x" * 2**19, "longer than 256 KiB"),
        ("\x00", "is not a YAML file"),
        ("- 1\n", "must hold a YAML mapping"),
    ],
)
def test_yaml_that_is_more_than_plain_settings(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    start = time.perf_counter()
    with pytest.raises(InputError, match=f"a.yaml.*{reason}"):
        read_yaml(path)
    assert time.perf_counter() - start < 10


def test_a_value_that_is_used_twice() -> None:
    assert load_yaml("a: &disk [1, {b: 2}]\nc: *disk\n")["c"] == [1, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate: .nan", "rate must be a finite number, not nan"),
        ("rate: .inf", "rate must be a finite number, not inf"),
        ("rate: 2020-01-01", "rate must be of type float, not '2020-01-01'"),
        ("count: 2020-01-01", "count must be of type int"),
        ("count: 1000000000000000000000", "count is too large a number"),
        ("rate: " + "9" * 400, "rate must be a finite number, not a huge integer"),
        ("folder: 3", "folder must be of type str"),
        ("name: [" + "x, " * 1000 + "]", r"name must be of type str.*\.\.\."),
    ],
)
def test_values_that_no_setting_can_have(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        overlay(Settings(), read_yaml(tmp_path / "a.yaml"), "a.yaml")
    assert len(str(caught.value)) < 300


def test_numbers_and_text_arrive_as_they_are_meant(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("rate: 1e-3\nname: 2020-01-01\n")
    assert overlay(Settings(), read_yaml(path), "a") == Settings(rate=0.001, name="2020-01-01")
    settings = Settings(rate=1e-7, name="12e4")  # such as a digest
    write_yaml(path, settings)
    assert overlay(Settings(), read_yaml(path), "a") == settings


@pytest.mark.parametrize(
    "line", ["gain: {uniform: [.nan, 9]}", "gain: {uniform: [1, .inf]}", "bias: {choice: [-.inf]}"]
)
def test_ranges_are_finite(tmp_path: Path, line: str) -> None:
    (tmp_path / "space.yaml").write_text(line)
    with pytest.raises(InputError, match="must be a number"):
        read_space(tmp_path / "space.yaml")


def test_a_space_reads_exponents(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lr: {loguniform: [1e-4, 1e-2]}")
    assert read_space(tmp_path / "space.yaml")["lr"].values == (1e-4, 1e-2)


DAMAGED = [b"{", b"\xff\xfe", b"[]", b"3", b"", b"{}", b'{"a": ' + b"[" * 100_000]


@pytest.mark.parametrize("line", [*DAMAGED, b'{"step": "3"}', b'{"step": -1}', b'{"step": true}'])
def test_a_damaged_line_of_a_history_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n{"step": 4')
    with pytest.raises(InputError, match=r"history.jsonl: line 2 is damaged"):
        read_history(path)


LEDGER = [
    *[b'{"trial": 7}', b'{"trial": "0"}', b'{"trial": 1}', b'{"trial": 0, "parameters": 3}'],
    *[b'{"trial": 0, "report": {"step": 2}}', b'{"trial": 0, "status": "lost"}'],
    b'{"trial": 0, "parameters": {"gain": "x"}}',
    b'{"trial": 0, "parameters": {}, "report": [1]}',
]


@pytest.mark.parametrize("line", DAMAGED + LEDGER)
def test_a_damaged_line_of_a_ledger_is_named_and_the_file_is_kept(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "ledger.jsonl"
    written = b'{"trial": 0, "parameters": {"gain": 3.0}}\n' + line + b"\n"
    path.write_bytes(written)
    with pytest.raises(InputError, match=r"ledger.jsonl: line 2 is damaged"):
        Ledger(path)
    assert path.read_bytes() == written


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png", "", "a\0b.png"])
def test_no_file_is_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="outside of it"):
        file_inside(tmp_path, name)
    assert file_inside(tmp_path, "a/..b/c.png") == tmp_path / "a" / "..b" / "c.png"


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "[" * 100_000])
def test_a_damaged_json_file_of_ours_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"result.json: is damaged .*; delete it and run the same"):
        read_json(path)
    with pytest.raises(InputError, match=r"nothing.json: is damaged .*; make it again\."):
        read_json(tmp_path / "nothing.json", "make it again")
