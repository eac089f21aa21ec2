"""What a command ends with: where things are, and what to run next.

A command calls `end_with`; the frame around it (`cpcdr.runtime.cli`) prints what was said last, so
that of commands that call others only the outermost is heard.
"""

import shlex
from collections.abc import Mapping, Sequence

from cpcdr.runtime.tables import text_table

_ending = ""


def end_with(places: Mapping[str, object], *commands: Sequence[object]) -> None:
    """Note where things are, by what they are, and the arguments of ``cpcdr`` commands to run next.

    Args:
        places: paths or addresses; empty ones are left out.
    """
    global _ending
    table = text_table([[f"  {name}", str(place)] for name, place in places.items() if place])
    lines = [shlex.join(["cpcdr", *map(str, command)]) for command in commands]
    then = "\nnext:\n" + "".join(f"  {line}\n" for line in lines) if lines else ""
    _ending = f"\n{table}\n{then}"


def taken_ending() -> str:
    """The text to print; ``""`` where nothing was noted since the last time."""
    global _ending
    text, _ending = _ending, ""
    return text
