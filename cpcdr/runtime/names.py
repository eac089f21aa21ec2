"""File names that are not UTF-8, escaped so that tables, logs and terminals accept them.

Python keeps the stray bytes of such a name as lone surrogates, which Arrow, JSON and a terminal
refuse. Here they become ``\\xfc``, and the file is found again from that.
"""

import os
import re
from pathlib import Path

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def readable(name: str | Path) -> str:
    r"""A path as text without surrogates; every other path stays as it is.

    >>> readable("/drives/br\udcfccke.mp4")
    '/drives/br\\xfccke.mp4'
    """
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def real_path(text: str) -> Path:
    """The path that `readable` wrote."""
    if "\\x" not in text or os.path.lexists(text):
        return Path(text)
    return Path(
        os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode()))
    )
