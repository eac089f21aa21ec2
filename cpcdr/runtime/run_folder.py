"""What an ``--out`` folder holds: settings written beside the results, compared before resuming."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpcdr.runtime.config import config_hash, flatten, read_yaml, to_plain, write_yaml
from cpcdr.runtime.errors import InputError

_REMEDY = "give another --out, or delete the folder"
_SHOWN = 3
"""Changed settings that the sentence names."""


def claim(
    folder: Path, file: str, identity: Mapping[str, Any], noun: str, free: Sequence[str] = ()
) -> str:
    """Make ``folder`` and write down what decides its content, or check that it holds just that.

    Args:
        file: the YAML file in it that holds the settings and their hash.
        noun: what the folder holds, for the sentence, such as ``a training``.
        free: dotted names of settings that may change.

    Returns:
        the hash of the settings that may not change.

    Raises:
        InputError: it holds something else, or cannot be a folder.
    """
    check_folder(folder)
    plain, path = to_plain(identity), folder / file
    digest = config_hash(_without(plain, free))
    if path.exists():
        refuse_other(folder, noun, _settings(path), {"hash": digest, **plain}, path, free)
        return digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({error.strerror}); give another --out."
        ) from error
    write_yaml(path, {"hash": digest, **plain})
    return digest


def refuse_other(
    folder: Path,
    noun: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    file: Path,
    free: Sequence[str] = (),
) -> None:
    """Refuse a folder whose content was made with other settings: their ``hash`` decides.

    Args:
        old: the settings that it was made with, and their ``hash``.
        new: the settings now, and theirs.

    Raises:
        InputError: the hashes differ; the sentence names up to three settings, old -> new.
    """
    if old.get("hash") == new["hash"]:
        return
    changed = [text for text in changes(old, new) if text.split(" ")[0] not in ("hash", *free)]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    what = f": {', '.join(changed[:_SHOWN])}{more}" if changed else ""
    raise InputError(f"{folder}: holds {noun} with other settings{what} (see {file}); {_REMEDY}.")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that differ, as ``name old -> new``.

    >>> changes({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1, 3]}, "d": "x"})
    ['b.c [1, 2] -> [1, 3]', "d unset -> 'x'"]
    """
    before, after = dict(flatten(to_plain(old))), dict(flatten(to_plain(new)))
    return [
        f"{name} {_shown(before, name)} -> {_shown(after, name)}"
        for name in dict.fromkeys([*before, *after])
        if (name in before) != (name in after) or before.get(name) != after.get(name)
    ]


def check_folder(folder: Path) -> None:
    """Check that a command can write into ``folder``, which need not exist.

    Raises:
        InputError: it is a file, a link to nothing, or not to be written to.
    """
    if folder.is_symlink() and not folder.exists():
        raise InputError(
            f"{folder}: is a link to {folder.readlink()}, which does not exist; make that, or "
            "give another --out."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, not a folder; give another --out.")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{folder}: {there} is a file, not a folder; give another --out.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {there} cannot be written to; give another --out.")


def is_empty(folder: Path) -> bool:
    """Whether it is a folder with nothing in it."""
    return folder.is_dir() and not any(folder.iterdir())


def _settings(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except InputError as error:
        raise InputError(
            f"{path}: cannot be read, so nobody knows what the folder holds; {_REMEDY}."
        ) from error


def _without(values: Mapping[str, Any], names: Sequence[str], prefix: str = "") -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if prefix + key not in names}
    return {
        key: _without(value, names, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in kept.items()
    }


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "unset"
    text = repr(values[name])
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
