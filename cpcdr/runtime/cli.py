"""The frame around every command: parse, call, print.

The command line is generated from the configuration dataclass by tyro. ``--config FILE.yaml`` puts
the file's values under those given on the command line. Bad input ends with one sentence and exit
code 2; the last line of a good run is ``RESULT {json}``.
"""

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, Union

import tyro

from cpcdr.runtime.config import overlay, read_yaml, size_of, to_plain
from cpcdr.runtime.ending import taken_ending
from cpcdr.runtime.errors import InputError, no_room
from cpcdr.runtime.help import essential_first
from cpcdr.runtime.names import readable
from cpcdr.runtime.progress import command_line
from cpcdr.runtime.stopping import leave_a_closed_pipe, stop_on_signals
from cpcdr.runtime.strict_json import to_json

T = TypeVar("T")

_SIZE_FLAG = r"--([\w-]+\.)*(evaluate[-_])?size|--window"


def parse(
    config_type: type[T], description: str, argv: Sequence[str], prog: str | None = None
) -> T:
    """The configuration from defaults, then ``--config`` files in order, then the command line.

    A file may hold sections for other scripts too (``best.yaml`` serves prepare and pretrain): a
    top-level mapping that this script has no field for is left alone, any other unknown key is
    an error.

    Raises:
        InputError: a flag or a ``--config`` file that cannot be used.
    """
    rest = _two_numbers([part for text in argv for part in _split_own(text)])
    default, note = _preset(config_type, rest)
    default, notes = _section_presets(default, rest)
    note += notes
    while "--config" in rest:
        at = rest.index("--config")
        if at + 1 >= len(rest):
            raise InputError("--config needs the path of a YAML file after it.")
        default = overlay_sections(default, read_yaml(Path(rest[at + 1])), rest[at + 1])
        del rest[at : at + 2]
    text = (
        f"{description}\n\n--config FILE.yaml: take defaults from a file (may be repeated).{note}"
    )
    errors, output = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            config = tyro.cli(config_type, args=rest, default=default, description=text, prog=prog)
        # What a file may not hold (nan, inf, numbers of more than 64 bits) is no argument either.
        return overlay(config, to_plain(config), "command line")
    except SystemExit as left:
        if left.code:
            raise InputError(_sentence(errors.getvalue())) from None
        first = getattr(config_type, "essential", "").split()
        print(essential_first(output.getvalue(), first), flush=True)
        raise


def _sentence(text: str) -> str:
    """tyro's boxed error as a sentence: the error and the nearest existing flag."""
    boxed = "│" in text  # elsewhere the terminal has only ASCII, and the title is a part of its own
    lines = [line.strip(" │") for line in text.splitlines() if line[:1] not in ("╭", "╰")]
    parts = re.split(r"[─-]{9,}", " ".join(lines))
    what = parts[0 if boxed else 1].strip().rstrip(".")
    flag = re.search(r"Perhaps you meant:[^-]*(--[\w.-]+)", " ".join(lines))
    return f"{what[:1].lower()}{what[1:]}" + (f"; did you mean {flag[1]}?" if flag else ".")


def complete(commands: Mapping[str, type[Any]], prog: str, shell: Sequence[str]) -> NoReturn:
    """Print a completion script for ``prog`` with a subcommand for each configuration."""
    kinds = [
        Annotated[kind, tyro.conf.subcommand(name, default=kind())]
        for name, kind in commands.items()
    ]
    union: Any = Union[tuple(kinds)]  # noqa: UP007
    tyro.cli(union, prog=prog, args=["--tyro-print-completion", *shell])
    raise AssertionError("tyro leaves after printing")


def _split_own(text: str) -> list[str]:
    """``--config=FILE`` and ``--preset=NAME`` as two arguments, as all others may be written.

    A KIND:PATH whose path is not UTF-8 comes in a form that can be recorded.
    """
    text = readable(text) if re.match(r"(--[\w.-]+=)?[a-z-]+:", text) else text
    name, equals, value = text.partition("=")
    own = name == "--config" or name.endswith("preset")
    return [name, value] if equals and own else [text]


def _two_numbers(arguments: list[str]) -> list[str]:
    """``--size 512x288``, width by height, as ``--size 288 512``, height and width."""
    result: list[str] = []
    for text in arguments:
        name, equals, value = text.partition("=")
        flag, given = (name, value) if equals else (result[-1] if result else "", text)
        size = size_of(given) if re.fullmatch(_SIZE_FLAG, flag) else None
        result += [*([name] if equals else []), *map(str, size)] if size else [text]
    return result


def _preset(config_type: type[T], rest: list[str]) -> tuple[T, str]:
    """Take ``--preset NAME`` out of the arguments: the defaults it means, and a line of help.

    A configuration with presets has a static method ``presets()``; the first is the default.
    """
    presets: dict[str, T] = getattr(config_type, "presets", dict)()
    if not presets:
        return config_type(), ""
    name = _take("--preset", presets, rest) or next(iter(presets))
    return presets[name], f"\n--preset {'|'.join(presets)}: where the defaults come from ({name})."


def _section_presets(default: T, rest: list[str]) -> tuple[T, str]:
    """`_preset` for sections that have presets: ``--SECTION.preset NAME``."""
    note = ""
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        kind = type(getattr(default, field.name))
        presets: dict[str, Any] = getattr(kind, "presets", dict)()
        if presets:
            flag = f"--{field.name}.preset"
            note += f"\n{flag} {'|'.join(presets)}: values of all --{field.name} options."
            name = _take(flag, presets, rest)
            if name:
                change: dict[str, Any] = {field.name: presets[name]}
                default = dataclasses.replace(default, **change)  # type: ignore[type-var]
    return default, note


def _take(flag: str, presets: Mapping[str, Any], rest: list[str]) -> str:
    """Take ``FLAG NAME`` out of the arguments: the name of a preset, ``""`` where none is given."""
    if flag not in rest:
        return ""
    at = rest.index(flag)
    name = rest[at + 1] if at + 1 < len(rest) else ""
    if name not in presets:
        raise InputError(f"{flag} '{name}' is unknown; choose {' or '.join(presets)}.")
    del rest[at : at + 2]
    return name


def overlay_sections(default: T, values: Mapping[str, Any], where: str) -> T:
    """`overlay`, ignoring the top-level sections that belong to other scripts."""
    names = {field.name for field in dataclasses.fields(default)}  # type: ignore[arg-type]
    own = {k: v for k, v in values.items() if k in names or not isinstance(v, Mapping)}
    return overlay(default, own, where)


def main(
    config_type: type[T],
    function: Callable[[T], Mapping[str, Any]],
    description: str | None,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
    word: str = "RESULT",
    again: str = "continue",
) -> NoReturn:
    """Parse, call ``function``, print its result behind ``word``; exit with 0, 2 or 130.

    Args:
        function: the work; imports what is heavy itself, so that help comes at once.
        word: before the result.
        again: what the same command does after a stop.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    stop_on_signals()
    try:
        given = sys.argv[1:] if argv is None else argv
        config = parse(config_type, (description or "").strip(), given, prog)
        with command_line(prog or "working"):
            result = function(config)
        print(taken_ending(), end="")
        sys.stderr.flush()
        print(f"{word} {to_json(result)}", flush=True)
    except BrokenPipeError:
        leave_a_closed_pipe()
    except InputError as error:
        leave(f"error: {error}", 2)
    except Exception as error:
        if not (sentence := no_room(error)):
            raise
        leave(f"error: {sentence}", 2)
    except KeyboardInterrupt:
        leave(f"stopped; run the same command again to {again}.", 130)
    sys.exit(0)


def leave(text: str, code: int) -> NoReturn:
    """Print to standard output, or where the code says error to standard error, and exit."""
    try:
        print(text, file=sys.stderr if code else sys.stdout, flush=True)
    except BrokenPipeError:
        if not code:
            leave_a_closed_pipe()
    sys.exit(code)
