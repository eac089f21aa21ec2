"""JSON that every reader accepts (it knows no NaN and no infinity), and files that hold it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.errors import InputError, first_line


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON; numbers that are not finite become null, paths text.

    >>> to_json({"loss": float("nan"), "step": 3})
    '{"loss": null, "step": 3}'
    """
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically."""
    write_atomic(path, to_json(value, indent=2) + "\n")


def finite(value: Any) -> Any:
    """The same nested value with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value) if isinstance(value, Path) else value


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
        ValueError: it is no JSON, or something else than an object.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("is no object")
    return value


def read_json(path: Path, remedy: str = "delete it and run the same command again") -> Any:
    """The object in a file that this program wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({first_line(error)}); {remedy}.") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line; a last line that a killed writer left is left out.

    Raises:
        InputError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(parse_object(line))
        except ValueError as error:
            raise damaged_line(path, number) from error
    return rows


def damaged_line(path: Path, number: int) -> InputError:
    """The sentence on a line, counted from 1, that cannot be used."""
    return InputError(
        f"{path}: line {number} is damaged; restore the file, or delete that line and run the same "
        "command again."
    )
