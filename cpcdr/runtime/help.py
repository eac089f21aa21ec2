"""The order of ``--help``: what most people need comes first, the rest below as advanced."""

import re
from collections.abc import Sequence

MOST = 10
"""Flags before the advanced ones."""
_SECTION = re.compile(r"^ (?=[^\s-].*\n -{9,}$)", re.MULTILINE)
_ENTRY = re.compile(r"^(?=  --?[a-z])", re.MULTILINE)


def essential_first(text: str, essential: Sequence[str] = ()) -> str:
    """tyro's help, without boxes, with its sections in another order.

    Args:
        text: the help, as tyro prints it where boxes cannot be drawn.
        essential: names of at most `MOST` flags, such as ``train.steps``, in their order; the
            first flags of the configuration itself if empty.

    Returns:
        the same entries: those of ``essential`` below ``options``, all others below titles that
        begin with ``advanced``.
    """
    head, *sections = _SECTION.split(re.sub(" +$", "", text, flags=re.MULTILINE))
    if not sections:
        return text
    entries: dict[str, str] = {}
    advanced: list[tuple[str, str, list[str]]] = []
    for section in sections:
        title, _, body = section.partition("\n")
        if title.startswith("positional"):
            head += f" {section}"
            continue
        about, *flags = _ENTRY.split(body.rstrip() + "\n")
        named = {flag.split()[0].strip(",").lstrip("-"): flag for flag in flags}
        entries |= named
        advanced.append((title.strip().removesuffix("options").strip(), about, list(named)))
    first = ["h", *(essential or [n for n in advanced[0][2] if n != "h"])[:MOST]]
    rule = advanced[0][1].splitlines()[0]
    parts = [f"{head} options\n{rule}\n" + "".join(entries[name] for name in first)]
    for title, about, names in advanced:
        if rest := "".join(entries[name] for name in names if name not in first):
            parts.append(f" advanced{': ' if title else ''}{title}\n{about}{rest}")
    return "\n".join(parts)
