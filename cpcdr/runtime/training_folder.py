"""The folder of a training: which checkpoint in it is used, also while it is unfinished."""

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpcdr.runtime.checkpoint import CONFIG, newest_whole_checkpoint, publish_checkpoint
from cpcdr.runtime.config import read_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.hold import holder
from cpcdr.runtime.strict_json import parse_object

RUN, PROGRESS = "run.yaml", "progress.json"
_COMMANDS = {"depth": "train-depth", "street": "train-street"}
"""Commands that are not named as the kind of their training."""
_TRIES = 3


def usable_checkpoint(folder: Path) -> Path:
    """The checkpoint that is meant by the folder of a training, or by one in it.

    Of a finished training it is ``OUT/checkpoint``. Of an interrupted or running one it is a copy
    of the newest checkpoint, ``OUT/snapshots/step-XXXXXXXX``, and a sentence is printed: the
    training itself would delete the original when it continues.

    Args:
        folder: ``OUT``, ``OUT/checkpoint`` or ``OUT/checkpoints`` of a training. Anything else,
            such as a checkpoint folder that exists, is returned as it is.

    Raises:
        InputError: the training is unfinished and has no checkpoint that can be used.
    """
    out = folder.parent if folder.name in ("checkpoint", "checkpoints") else folder
    if (folder / CONFIG).is_file() or not (run := _read_run(out)):
        return folder
    if (out / "checkpoint" / CONFIG).is_file():
        return out / "checkpoint"
    state, remedy = _state(out, run)
    snapshot = _snapshot(out)
    if snapshot is None:
        raise InputError(f"{state} and has no checkpoint yet: {remedy}.")
    step = int(snapshot.name.rpartition("-")[2])
    print(
        f"{state}: {remedy}. Its newest checkpoint, of step {step}, is used now: {snapshot}.",
        flush=True,
    )
    return snapshot


def refuse_unfinished(out: Path) -> None:
    """Refuse what only a finished training leaves in its folder.

    Raises:
        InputError: ``out`` holds a training that was interrupted or still runs.
    """
    run = _read_run(out)
    if run and not (out / "checkpoint" / CONFIG).is_file():
        state, remedy = _state(out, run)
        raise InputError(f"{state}: {remedy}.")


def _read_run(out: Path) -> Mapping[str, Any]:
    """What the training in a folder was started with; empty where there is none."""
    if not (out / RUN).is_file():
        return {}
    values = read_yaml(out / RUN)
    return values if {"kind", "train"} <= values.keys() else {}


def _snapshot(out: Path) -> Path | None:
    """A copy of the newest checkpoint that stays; None if there is no checkpoint."""
    for _ in range(_TRIES):
        newest = newest_whole_checkpoint(out / "checkpoints")
        if newest is None:
            return None
        with suppress(FileNotFoundError):  # the training has deleted it meanwhile
            return _copied(newest, out / "snapshots" / newest.name)
    raise InputError(f"{out}: its checkpoints are replaced too fast to copy one; try again.")


def _copied(checkpoint: Path, target: Path) -> Path:
    own = target.with_name(f".{target.name}.{os.getpid()}")
    if target.is_dir():
        return target
    try:
        publish_checkpoint(checkpoint, own)
        own.rename(target)
    except OSError as error:
        shutil.rmtree(own, ignore_errors=True)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return checkpoint  # somebody else's folder
        if not target.is_dir():  # else another command has copied it at the same time
            raise
    return target


def _state(out: Path, run: Mapping[str, Any]) -> tuple[str, str]:
    """Whether a training runs and how far it is, and what to do to have it finished."""
    lease, where = holder(out), ""
    with suppress(OSError, ValueError, KeyError):  # it has logged nothing yet
        progress = parse_object((out / PROGRESS).read_bytes())
        where = f" at step {progress['step']} of {progress['total']}"
    if lease:
        process = f"process {lease.pid} on {lease.host}"
        return f"{out}: this training is still running{where} ({process})", "wait for it"
    command = _COMMANDS.get(run["kind"], run["kind"])
    remedy = f"run the same cpcdr {command} command again to finish it"
    return f"{out}: this training stopped{where or ' before its end'}", remedy
