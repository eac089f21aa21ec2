"""Configuration: frozen dataclasses to and from plain data, YAML files and a stable hash.

Each configuration class lives beside the code that it configures; this module has what they share.
"""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from cpcdr.runtime.durable import replace_durable, write_durable
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.yaml_loader import LARGEST, load_yaml

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


def without(config: Any, *names: str) -> dict[str, Any]:
    """The plain configuration without some of its fields."""
    return {name: value for name, value in to_plain(config).items() if name not in names}


def flatten(
    values: Mapping[str, Any], separator: str = ".", prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Every value in nested dicts, with the keys that lead to it joined.

    >>> dict(flatten({"a": 1, "b": {"c": 2}}))
    {'a': 1, 'b.c': 2}
    """
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value


def config_hash(config: Any) -> str:
    """Twelve hex digits that change when any value in ``config`` changes."""
    text = json.dumps(to_plain(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def overlay(default: T, values: Mapping[str, Any], where: str) -> T:
    """``default`` with nested ``values`` put over it, by field names.

    Raises:
        InputError: an unknown key, or a value of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(default)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            names = ", ".join(fields)
            raise InputError(f"{where}: unknown key {shown(key)}; the keys here are {names}.")
        old = getattr(default, key)
        changes[key] = _converted(old, value, hints[key], f"{where}: {key}")
    try:
        return dataclasses.replace(default, **changes)  # type: ignore[type-var]
    except InputError as error:  # the class that refuses a value does not know its file
        raise InputError(f"{where}: {error}") from error


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
            choices = ", ".join(str(choice) for choice in typing.get_args(hint))
            raise InputError(f"{where} must be one of {choices}, not {shown(value)}.")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _number(value, where) if float in typing.get_args(hint) else _path(value, where)
    if isinstance(old, tuple):
        return _converted_tuple(old, value, hint, where)
    if isinstance(old, Path):
        return _path(value, where)
    if isinstance(old, float):
        return _number(value, where)
    if old is not None and type(value) is not type(old):
        raise _mistyped(type(old), value, where)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{where} is too large a number: {shown(value)}.")
    return value


def _path(value: Any, where: str) -> Path:
    if not isinstance(value, str):
        raise _mistyped(str, value, where)
    return Path(value)


def _number(value: Any, where: str) -> float:
    number = as_number(value)
    if number is None:
        raise _mistyped(float, value, where)
    if not math.isfinite(number):
        raise InputError(f"{where} must be a finite number, not {shown(value)}.")
    return float(number)


def _mistyped(expected: type, value: Any, where: str) -> InputError:
    return InputError(
        f"{where} must be of type {expected.__name__}, not {shown(value)} ({type(value).__name__})."
    )


def as_number(value: Any) -> int | float | None:
    """A number as YAML gives it, which reads ``1e-3`` as text; None if it is no number.

    >>> as_number("1e-3"), as_number(True), as_number("1")
    (0.001, None, None)
    """
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) >= 2**63:
        return math.inf if value > 0 else -math.inf  # no setting is so large
    return value


def shown(value: Any) -> str:
    """A value as errors quote it, cut to 80 characters."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**63 else "a huge integer"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _converted_tuple(old: tuple[Any, ...], value: Any, hint: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) and hint == tuple[int, int]:
        value = size_of(value) or value
    any_length = Ellipsis in typing.get_args(hint)
    if not isinstance(value, list | tuple) or (len(value) != len(old) and not any_length):
        raise InputError(f"{where} must be a list of {len(old)} values, not {shown(value)}.")
    example = old[0] if old else typing.get_args(hint)[0]()
    return tuple(_converted(example, item, type(example), where) for item in value)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values from a file.

    Raises:
        InputError: the file is missing, is no YAML, or is no mapping.
    """
    try:
        with path.open("rb") as file:
            values = load_yaml(file.read(LARGEST + 1).decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise InputError(
            f"{path}: is not a YAML file ({error}); write keys and values as YAML."
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold a YAML mapping of keys to values.")
    return values


def write_atomic(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a file so that readers see the old or the new one; ``durable``: wait for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    data = content.encode() if isinstance(content, str) else content
    if durable:
        write_durable(temporary, data)
        replace_durable(temporary, path)
    else:
        temporary.write_bytes(data)
        temporary.replace(path)


def size_of(text: str) -> tuple[int, int] | None:
    """Height and width of a size written as ``WIDTHxHEIGHT``; None if it is not.

    >>> size_of("512x288"), size_of("512")
    ((288, 512), None)
    """
    match = re.fullmatch(r"(\d{1,9})[xX×](\d{1,9})", text)
    return (int(match[2]), int(match[1])) if match else None


def write_yaml(path: Path, config: Any) -> None:
    """``config`` as YAML, atomically."""
    write_atomic(path, yaml.safe_dump(to_plain(config), sort_keys=False))
