"""Checkpoint folders: what is in one, writing it atomically, finding the newest, reading it safely.

A checkpoint folder holds ``model.safetensors`` (weights), ``config.yaml`` (kind, configuration,
step) and ``state.pt`` (optimiser, loaded with ``weights_only=True``). A training keeps its newest
ones under ``OUT/checkpoints/step-XXXXXXXX`` and the finished one as ``OUT/checkpoint``.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from cpcdr.runtime.config import read_yaml, write_yaml
from cpcdr.runtime.errors import InputError

WEIGHTS, CONFIG, STATE = "model.safetensors", "config.yaml", "state.pt"


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` optimiser steps lies."""
    return root / f"step-{step:08d}"


def newest_checkpoint(root: Path) -> Path | None:
    """The checkpoint with the most steps under ``root``; None if there is none."""
    return max(root.glob("step-????????"), default=None)


def write_checkpoint(
    root: Path, step: int, config: Mapping[str, Any], weights: Mapping[str, Tensor], state: Any
) -> Path:
    """Write ``root/step-XXXXXXXX`` so that it is there whole or not at all.

    Args:
        root: folder of the training's checkpoints.
        step: optimiser steps done.
        config: the plain nested dict for ``config.yaml``.
        weights: the module's state dict.
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
        # Python writes the bytes: of a full disk torch's own writer says "unexpected pos".
        (temporary / WEIGHTS).write_bytes(save(tensors))
        (temporary / STATE).write_bytes(buffer.getbuffer())
        write_yaml(temporary / CONFIG, {**config, "step": step})
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    return final


def prune_checkpoints(root: Path, keep: int = 2) -> None:
    """Delete all but the newest ``keep`` checkpoints, and what a killed writer left."""
    for old in sorted(root.glob("step-????????"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for partial in root.glob(".step-*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def publish_checkpoint(checkpoint: Path, target: Path) -> None:
    """Copy the final checkpoint to ``target`` without the optimiser state, atomically."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary, ignore=shutil.ignore_patterns(STATE))
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def read_config(folder: Path, *kinds: str) -> dict[str, Any]:
    """``config.yaml`` of a checkpoint of one of the given kinds.

    Raises:
        InputError: as one sentence, for whatever is wrong with it.
    """
    _require(folder, CONFIG)
    values = read_yaml(folder / CONFIG)
    if values.get("kind") not in kinds:
        *others, last = kinds
        known = f"{', '.join(others)} or {last}" if others else last
        raise InputError(
            f"{folder}: is a checkpoint of kind '{values.get('kind')}', not {known}; "
            f"give one that a {known} command wrote."
        )
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
    try:
        return values, load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors has its own error class, and raises OSError too
        raise InputError(
            f"{folder / WEIGHTS}: is not a safetensors file; train or copy it again."
        ) from error


def read_state(folder: Path) -> dict[str, Any]:
    """The optimiser state of a checkpoint.

    Raises:
        InputError: it is missing, or holds anything but tensors and plain values.
    """
    try:
        return torch.load(folder / STATE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{folder / STATE}: cannot be resumed from; delete the folder {folder} to go on "
            "from the checkpoint before it."
        ) from error


def _require(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise InputError(
            f"{folder}: has no {name}; give a checkpoint folder, such as OUT/checkpoint."
        )
