"""Help: ten flags first, all others below titles that say advanced."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any

import pytest
import tyro

from cpcdr.commands import COMMANDS, config_of
from cpcdr.runtime.cli import parse
from cpcdr.runtime.help import MOST


def sections(text: str) -> dict[str, list[str]]:
    """The flags below each title."""
    parts = re.split(r"^ (\S.*?) *\n -{9,} *$", text, flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^  (?:-h, )?--([a-z][\w.-]*)", body, re.MULTILINE)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def fields(config: Any) -> int:
    """The number of flags of a configuration; a hidden field has none."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    hidden = typing.get_args(tyro.conf.Suppress[int])[1]
    names = [n for n, hint in hints.items() if hidden not in getattr(hint, "__metadata__", ())]
    values = [getattr(config, f.name) for f in dataclasses.fields(config) if f.name in names]
    return sum(fields(v) if dataclasses.is_dataclass(v) else 1 for v in values)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_most_important_flags_come_first(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(config_of(name), "", ["--help"])
    told = sections(capsys.readouterr().out)
    told.pop("positional arguments", None)
    (title, (help_flag, *first)), *rest = told.items()
    assert (title, help_flag) == ("options", "help")
    assert 0 < len(first) <= MOST
    assert {"out", "frames", "data"} & set(first)
    assert all(title.startswith("advanced") and flags for title, flags in rest)
    known = {"engine", "tracking"} & {flag for _, flags in rest for flag in flags}
    assert name not in ("pretrain", "finetune", "prepare", "train_depth") or not known
    flags = [flag for flags in told.values() for flag in flags]
    positional = name in ("benchmark", "run")
    assert len(set(flags)) == len(flags) == 1 + fields(config_of(name)()) - positional
