"""Checkpoint folders: what is in one, writing it atomically, finding the newest, reading it safely.

A checkpoint folder holds ``model.safetensors`` (weights), ``state.pt`` (optimiser, loaded with
``weights_only=True``) and ``config.yaml`` (kind, configuration, step, and the digest of each file,
which is verified on load). A training keeps its newest ones under ``OUT/checkpoints/step-XXXXXXXX``
and the finished one as ``OUT/checkpoint``.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cpcdr.runtime.config import config_hash, read_yaml, to_plain, write_yaml
from cpcdr.runtime.durable import file_digest, replace_durable, sync_folder, write_durable
from cpcdr.runtime.errors import InputError

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.yaml", "state.pt"
Module = TypeVar("Module", bound=nn.Module)
FORMAT = 1
"""Of checkpoint folders; a larger one is refused."""
_SIDE = 2**14
"""Pixels of the longest side of a training's frames."""


def step_folder(root: Path, step: int) -> Path:
    """The folder of the checkpoint after ``step`` optimiser steps."""
    return root / f"step-{step:08d}"


def newest_checkpoint(root: Path) -> Path | None:
    """The checkpoint with the most steps under ``root``; None if there is none."""
    return max(root.glob("step-????????"), default=None)


def newest_whole_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint that is not damaged; None if there is none at all.

    Raises:
        InputError: there are checkpoints, and all of them are damaged.
    """
    folders, reasons = sorted(root.glob("step-????????"), reverse=True), []
    for folder in folders:
        try:
            check_checkpoint(folder)
        except InputError as error:
            reasons.append(str(error))
        else:
            return folder
    if reasons:
        raise InputError(
            f"{root}: no checkpoint can be resumed from ({reasons[0]}); give another --out, or "
            f"delete {root} to train from the start."
        )
    return None


def set_damaged_aside(root: Path) -> list[str]:
    """Rename checkpoints that are newer than the newest whole one, so that it is the newest.

    Returns:
        a sentence for each of them.

    Raises:
        InputError: as `newest_whole_checkpoint`.
    """
    whole, sentences = newest_whole_checkpoint(root), []
    for folder in sorted(root.glob("step-????????"), reverse=True):
        if folder == whole:
            break
        aside = folder.with_name(f".{folder.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        assert whole is not None
        sentences.append(f"{folder}: is damaged; resuming from {whole.name}, the one before it")
    return sentences


def check_checkpoint(folder: Path) -> None:
    """Verify that all files of a checkpoint are as they were written.

    Raises:
        InputError: one is missing or has changed, or a newer version of cpcdr wrote them.
    """
    values = read_yaml(folder / CONFIG)
    _check_format(folder, values)
    digests = values.pop("digests", {})
    if digests and digests.get(CONFIG) != config_hash(values):
        raise _damaged(folder / CONFIG)
    for name in (WEIGHTS, STATE):
        _require(folder, name)
        _check_digest(folder, name, digests)


def write_checkpoint(
    root: Path, step: int, config: Mapping[str, Any], weights: Mapping[str, Tensor], state: Any
) -> Path:
    """Write ``root/step-XXXXXXXX`` so that it is there whole or not at all.

    Args:
        state: optimiser state and the like: tensors and plain values only.

    Raises:
        OSError: the disk is full; nothing of the checkpoint is left on it then.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = step_folder(root, step)
    temporary = root / f".{final.name}.{os.getpid()}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    tensors = {k: v.detach().contiguous().cpu() for k, v in weights.items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        temporary.mkdir()
        # Python writes the bytes: torch's own writer reports a full disk as "unexpected pos".
        write_durable(temporary / WEIGHTS, save(tensors))
        write_durable(temporary / STATE, buffer.getbuffer())
        values = to_plain({**config, "step": step, "format": FORMAT})
        values.pop("digests", None)  # of the checkpoint that this one was made from
        digests = {name: file_digest(temporary / name) for name in (WEIGHTS, STATE)}
        digests[CONFIG] = config_hash(values)  # of all but the digests
        write_yaml(temporary / CONFIG, {**values, "digests": digests})
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    replace_durable(temporary, final)
    return final


def best_checkpoint(root: Path) -> Path:
    """The checkpoint that was best on held-out data; the newest where nothing was held out.

    Raises:
        InputError: there is none.
    """
    newest = newest_checkpoint(root)
    if newest is None:
        raise InputError(f"{root}: holds no checkpoint; run the training again.")
    best = read_yaml(newest / CONFIG).get("best")
    return step_folder(root, int(best["step"])) if best else newest


def prune_checkpoints(root: Path, best: int | None = None, keep: int = 2) -> None:
    """Delete all but the newest ``keep`` checkpoints and the ``best`` one, and damaged ones."""
    for old in sorted(root.glob("step-????????"))[:-keep]:
        if best is None or old != step_folder(root, best):
            shutil.rmtree(old, ignore_errors=True)
    for left in (*root.glob(".step-*.partial"), *root.glob(".step-*.damaged")):
        shutil.rmtree(left, ignore_errors=True)


def publish_checkpoint(checkpoint: Path, target: Path) -> None:
    """Copy the final checkpoint to ``target`` without the optimiser state, atomically."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in (WEIGHTS, CONFIG):
        write_durable(temporary / name, (checkpoint / name).read_bytes())
    sync_folder(temporary)
    shutil.rmtree(target, ignore_errors=True)
    replace_durable(temporary, target)


def save_checkpoint(
    folder: Path, step: int, values: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> None:
    """Write a final checkpoint that no training made, atomically; ``folder`` is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".checkpoint-", dir=folder.parent) as scratch:
        publish_checkpoint(write_checkpoint(Path(scratch), step, values, weights, {}), folder)


def weights_digest(folder: Path) -> str:
    """Digest of a checkpoint's weights: part of the identity of everything that uses them.

    Raises:
        InputError: it has none.
    """
    _require(folder, WEIGHTS)
    return file_digest(folder / WEIGHTS)[:16]


def trained_size(folder: Path, config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the frames of a training, from the ``config`` of its checkpoint.

    Raises:
        InputError: it has none.
    """
    match config if "size" in config else config.get("dataset"):
        case {"size": [int(height), int(width)]} if all(0 < s <= _SIDE for s in (height, width)):
            return height, width
    raise InputError(
        f"{folder / CONFIG}: has no size of two numbers in 1..{_SIDE}, height and width: it is "
        "damaged; copy the checkpoint again or retrain."
    )


def read_config(folder: Path, *kinds: str) -> dict[str, Any]:
    """``config.yaml`` of a checkpoint of one of the given kinds.

    Raises:
        InputError: as one sentence, for whatever is wrong with it.
    """
    _require(folder, CONFIG)
    values = read_yaml(folder / CONFIG)
    if values.get("kind") not in kinds:
        *others, last = kinds
        names = f"{', '.join(others)} or {last}" if others else last
        raise InputError(
            f"{folder}: is a checkpoint of kind '{values.get('kind')}', not {names}; "
            f"give one that a {names} command wrote."
        )
    _check_format(folder, values)
    if not isinstance(values.get("config"), dict):
        raise InputError(
            f"{folder / CONFIG}: has no section 'config', so it is damaged; copy the checkpoint "
            "again, or train it again."
        )
    return values


def read_checkpoint(folder: Path, *kinds: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.yaml`` and the weights of a checkpoint of one of the given kinds.

    Raises:
        InputError: as one sentence, for whatever is wrong with the folder.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        _require(folder, name)
    values = read_config(folder, *kinds)
    _check_digest(folder, WEIGHTS, values.get("digests", {}))
    try:
        return values, load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has its own error class, and raises OSError too
        raise InputError(
            f"{folder / WEIGHTS}: is not a safetensors file; train or copy it again."
        ) from error


def load_module(build: Callable[[], Module], weights: Mapping[str, Tensor]) -> Module:
    """The module that ``build`` makes, with the weights of a checkpoint.

    It is made without memory first: the sizes in a damaged config.yaml may be any.

    Raises:
        RuntimeError: the weights are not those of such a module.
    """
    try:
        with torch.device("meta"):
            build().load_state_dict(weights, assign=True)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise RuntimeError(str(error)) from error
    module = build()
    module.load_state_dict(weights)
    return module


def read_state(folder: Path) -> dict[str, Any]:
    """The optimiser state of a checkpoint.

    Raises:
        InputError: it is missing or damaged, or holds anything but tensors and plain values.
    """
    try:
        _check_digest(folder, STATE, read_yaml(folder / CONFIG).get("digests", {}))
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("an optimiser's state is a dict")
        return state
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{folder / STATE}: cannot be resumed from; delete the folder {folder} to "
            "resume from the checkpoint before it."
        ) from error


def _check_format(folder: Path, values: Mapping[str, Any]) -> None:
    version = values.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise InputError(
            f"{folder}: has format {version}, and this version of cpcdr reads up to {FORMAT}; "
            "update cpcdr."
        )


def _check_digest(folder: Path, name: str, digests: Any) -> None:
    """Checkpoints that record no digest are taken as they are."""
    expected = digests.get(name) if isinstance(digests, Mapping) else None
    if expected is not None and file_digest(folder / name) != expected:
        raise _damaged(folder / name)


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: is damaged: it is not what was written; copy the checkpoint again, or train it "
        "again."
    )


def _require(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise InputError(
            f"{folder}: has no {name}; give a checkpoint folder, such as OUT/checkpoint."
        )
