"""Calling a command: its arguments are parsed as on the command line, then it runs here."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from cpcdr.api.results import Result
from cpcdr.commands import config_of, function_of
from cpcdr.runtime.cli import parse
from cpcdr.runtime.ending import taken_ending
from cpcdr.runtime.progress import command_line

R = TypeVar("R", bound=Result)


def call(
    name: str, kind: type[R], arguments: Mapping[str, Any], flags: Mapping[str, Any] | None
) -> R:
    """Run a command.

    Args:
        name: such as ``train_depth``.
        arguments: by the name of their flag, ``""`` for one without; what is None keeps its
            default.
        flags: more of them.

    Raises:
        InputError: what the command refuses.
    """
    config = configuration(name, {**arguments, **(flags or {})})
    with command_line(f"cpcdr {name.replace('_', '-')}"):
        values = function_of(name)(config)
    taken_ending()  # where things are is in the result, and what to run next are commands
    return kind.of(values)


def configuration(name: str, arguments: Mapping[str, Any]) -> Any:
    """The configuration of a command that is given ``arguments`` by the names of their flags.

    Raises:
        InputError: there is no such flag, or it does not take such a value.

    >>> configuration("prepare", {"size": (64, 128), "allow_poor_depth": True}).size
    (64, 128)
    """
    given = {flag: value for flag, value in arguments.items() if value is not None}
    return parse(config_of(name), "", [part for item in given.items() for part in _written(*item)])


def _written(name: str, value: Any) -> Iterator[str]:
    """A flag and its value as they are written on the command line."""
    section, dot, last = name.lstrip("-").replace("_", "-").rpartition(".")
    if not name:
        yield str(value)
    elif isinstance(value, bool):
        yield f"--{section}{dot}{'' if value else 'no-'}{last}"
    elif isinstance(value, list | tuple):
        yield from (f"--{section}{dot}{last}", *map(str, value))
    else:
        yield f"--{section}{dot}{last}={value}"
