"""Tables of text and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def text_table(rows: Sequence[Sequence[str]], justify: Any = str.ljust) -> str:
    """Columns aligned for a terminal: left, or right with ``str.rjust``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(justify, row, widths)).rstrip() for row in rows)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header and every column that any row has."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "frame"), counted(0, "labelled frame")
    ('1 frame', '0 labelled frames')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
