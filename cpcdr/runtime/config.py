"""Configuration: frozen dataclasses to and from plain data, YAML files and a stable hash.

Each configuration class lives beside the code that it configures; here is only what all share.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from cpcdr.runtime.durable import replace_durable, write_durable
from cpcdr.runtime.errors import InputError

T = TypeVar("T")

Engine = Literal["ray", "local"]
"""Where work runs: on Ray, or in this process without it."""


def to_plain(config: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, paths to text: what YAML and JSON can hold.

    >>> to_plain((1, Path("a/b")))
    [1, 'a/b']
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def config_hash(config: Any) -> str:
    """Twelve hex digits that change when any value in ``config`` changes."""
    text = json.dumps(to_plain(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def overlay(default: T, values: Mapping[str, Any], where: str) -> T:
    """``default`` with the ``values`` of a nested mapping put over it.

    Args:
        default: a configuration dataclass instance.
        values: field names to values; nested mappings go into nested dataclasses.
        where: the file the values come from, for the error.

    Raises:
        InputError: an unknown key, or a value of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(default)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            known = ", ".join(fields)
            raise InputError(f"{where}: unknown key '{key}'; the keys here are {known}.")
        old = getattr(default, key)
        changes[key] = _converted(old, value, hints[key], f"{where}: {key}")
    return dataclasses.replace(default, **changes)  # type: ignore[type-var]


def _converted(old: Any, value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(old) and not isinstance(old, type):
        name = where.rpartition(" ")[2]
        if not isinstance(value, Mapping) and hasattr(old, name):
            value = {name: value}  # ``engine: local``, as on the command line
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a mapping of keys to values.")
        return overlay(old, value, where)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            known = ", ".join(str(choice) for choice in typing.get_args(hint))
            raise InputError(f"{where} must be one of {known}, not {value!r}.")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return None if value is None else Path(value)
    if isinstance(old, tuple):
        return _converted_tuple(old, value, hint, where)
    if isinstance(old, Path):
        return Path(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(value) is not type(old):
        raise InputError(
            f"{where} must be of type {type(old).__name__}, not {value!r} ({type(value).__name__})."
        )
    return value


def _converted_tuple(old: tuple[Any, ...], value: Any, hint: Any, where: str) -> tuple[Any, ...]:
    any_length = Ellipsis in typing.get_args(hint)
    if not isinstance(value, list | tuple) or (len(value) != len(old) and not any_length):
        raise InputError(f"{where} must be a list of {len(old)} values, not {value!r}.")
    return tuple(_converted(old[0], item, type(old[0]), where) for item in value)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file, by the safe loader.

    Raises:
        InputError: the file is missing, is no YAML, or is no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not a YAML file; write keys and values as YAML.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold a YAML mapping of keys to values.")
    return values


def write_atomic(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Args:
        durable: wait until the disk has it, so that a power cut cannot take it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    data = content.encode() if isinstance(content, str) else content
    if durable:
        write_durable(temporary, data)
        replace_durable(temporary, path)
    else:
        temporary.write_bytes(data)
        temporary.replace(path)


def write_yaml(path: Path, config: Any) -> None:
    """``config`` as YAML, atomically."""
    write_atomic(path, yaml.safe_dump(to_plain(config), sort_keys=False))
