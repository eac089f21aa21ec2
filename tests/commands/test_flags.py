"""Every flag that a command shows does something."""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import pytest
import tyro

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.variants import FULL, pretraining, variant
from cpcdr.commands import COMMANDS, config_of
from cpcdr.commands.config import DemoConfig
from cpcdr.runtime.cli import parse
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig
from cpcdr.train.finetune_config import FinetuneConfig
from cpcdr.train.pretrain_task import task_of
from cpcdr.tune.config import SearchConfig

ROOT = Path(__file__).resolve().parents[2]
OTHERS: dict[str, list[str]] = {
    "size": ["64", "128"],
    "evaluate_size": ["64", "128"],
    "window": ["0:9"],
    "intrinsics": ["50,50,30,20"],
    "scales": ["0.5", "1.5"],
    "variants": ["full", "slic"],
    "zoom": ["1.0", "1.75"],
    "blur_sigma": ["0.2", "1.0"],
    "scale": ["0.5", "1.0"],
    "jitter": ["0.1", "0.1", "0.1", "0.1"],
    "height": ["64"],
    "width": ["64"],
    "seeds": ["3"],
    "head_channels": ["32"],
    "spacing": ["2"],
    "start": ["scratch"],
    "out": ["elsewhere"],
    "init": [str(ROOT / "cpcdr" / "depth" / "street.safetensors")],
    "backbone": ["resnet10"],
}
"""Other legal values of flags for which `other` would find none."""
NEEDS = {
    ("demo", "frames"): ["--depth", "ground-truth"],
    ("ablate", "frames"): ["--depth", "ground-truth", "--evaluate", "camvid:val"],
    ("ablate", "data"): ["--evaluate", "camvid:val"],
    ("segment", "labels"): ["--out", "labels"],
}
"""What a flag cannot be given without."""


def leaves(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Path, type hint and value of every field that is no configuration itself."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    hidden = typing.get_args(tyro.conf.Suppress[int])[1]
    for field in dataclasses.fields(config):
        value, here = getattr(config, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, here)
        elif hidden not in getattr(hints[field.name], "__metadata__", ()):
            yield here, hints[field.name], value


def other(name: str, hint: Any, value: Any) -> list[str]:
    """Another legal value of a flag, as it is written on the command line."""
    plain = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if typing.get_origin(plain) is Literal:
        return [str(next(choice for choice in typing.get_args(plain) if choice != value))]
    if name == "window" and isinstance(value, tuple):
        return ["64", "64"]
    if name in OTHERS and not (name == "jitter" and isinstance(value, float)):
        return OTHERS[name]
    if float in typing.get_args(plain):
        return ["12.5"]
    if NoneType in typing.get_args(plain) or isinstance(value, Path):
        return ["elsewhere"]
    if isinstance(value, tuple):
        one = value[0] if value else "pretrain"
        return [str(one + 1 if isinstance(one, int) else one)] + [str(v) for v in value[1:]]
    if isinstance(value, int):
        return [str(value + 1)]
    if isinstance(value, float):
        return [str(round(value * 0.5 + 0.125, 6))]
    return ["elsewhere"]


def flag(path: tuple[str, ...], hint: Any) -> str:
    """As it is written: a flag without prefix has only its own name."""
    metadata = getattr(hint, "__metadata__", ())
    flat = any(getattr(m, "prefix_name", None) is False for m in metadata)
    return "--" + ".".join(path[-1:] if flat else path).replace("_", "-")


def effective(config: Any) -> Any:
    """What a command makes of its configuration, by the functions that it uses itself."""
    if isinstance(config, PretrainConfig):
        rest = {n: getattr(config, n) for n in ("train", "engine", "tracking", "out")}
        return to_plain([task_of(config), rest])
    if isinstance(config, DemoConfig):
        return to_plain(list(config.stages()))
    if isinstance(config, SearchConfig):
        full = config.pretrain.config(Path("data"), config.seed, config.steps, 1)
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        return to_plain([{**fields, "pretrain": None}, full])
    if isinstance(config, AblateConfig):
        full = pretraining(variant(FULL), config.pretrain, Path("data"), 0, config.steps)
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        return to_plain([{**fields, "pretrain": None}, full])
    return to_plain(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_flag_does_something(name: str) -> None:
    kind = config_of(name)
    base = parse(kind, "", [])
    dead, untouched = [], effective(base)
    for path, hint, value in leaves(base):
        if isinstance(value, bool):
            given = [flag((*path[:-1], ("no_" if value else "") + path[-1]), hint)]
        else:
            given = [flag(path, hint), *other(path[-1], hint, value)]
        if typing.get_args(tyro.conf.Positional[str])[1] in getattr(hint, "__metadata__", ()):
            given = given[1:]
        needed = NEEDS.get((name, path[-1]), [])
        if path[-1] == "interpolate":
            needed = ["--" + ".".join((*path[:-1], "init")), *OTHERS["init"]]
        before = effective(parse(kind, "", needed)) if needed else untouched
        try:
            changed = effective(parse(kind, "", [*given, *needed]))
        except InputError as error:
            dead.append(f"{' '.join(given)}: {error}")
            continue
        if changed == before:
            dead.append(" ".join(given))
    assert not dead


def test_the_test_finds_a_flag_that_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a seed was that the command replaced by its own."""
    given = parse(PretrainConfig, "", ["--items", "2"])
    assert effective(given) != effective(parse(PretrainConfig, "", []))
    whole = task_of
    monkeypatch.setitem(globals(), "task_of", lambda c: whole(dataclasses.replace(c, items=1)))
    assert effective(given) == effective(parse(PretrainConfig, "", []))


def test_what_fine_tuning_does_not_train_has_no_flag() -> None:
    flags = {flag(path, hint) for path, hint, _ in leaves(parse(FinetuneConfig, "", []))}
    assert "--finetune.model.width" in flags
    for name in ("--finetune.model.prototypes", "--finetune.model.feature-dim"):
        assert name not in flags
        with pytest.raises(InputError, match="unrecognized"):
            parse(FinetuneConfig, "", [name, "8"])


def reads() -> set[str]:
    """Names of the attributes that the package reads, but for the checks of configurations."""
    names = set()
    for file in (ROOT / "cpcdr").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                node.body = [n for n in node.body if getattr(n, "name", "") != "__post_init__"]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)  # of getattr, and of the lists of an identity's parts
    return names


def test_every_field_is_read_somewhere() -> None:
    known = reads()
    assert "superpixels" in known and "no_such_field" not in known
    for name in COMMANDS:
        unread = {path[-1] for path, _, _ in leaves(parse(config_of(name), "", []))} - known
        assert not unread, name


def test_no_two_flags_have_one_name() -> None:
    for name in COMMANDS:
        flags = [flag(path, hint) for path, hint, _ in leaves(parse(config_of(name), "", []))]
        assert len(set(flags)) == len(flags), name
