"""A training step of any task has one gradient, however many threads compute it.

PyTorch adds up the gradient of ``table[rows]``, and of a scatter-add, in whatever order its threads
come; a resumed training would no longer be an uninterrupted one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_depth_task import SMALL as DEPTH
from test_finetune_task import SMALL as FINETUNE
from test_finetune_task import STREET
from test_pretrain_task import data, task
from torch.utils._python_dispatch import TorchDispatchMode

from cpcdr.depth.config import StreetConfig
from cpcdr.frames import open_frames
from cpcdr.train.depth_task import DepthTask
from cpcdr.train.finetune_task import FinetuneTask
from cpcdr.train.street_task import StreetTask
from cpcdr.train.task import Task

__all__ = ["data"]  # a fixture

UNORDERED = ("index_put", "scatter_add", "scatter_reduce", "put_")
CPU = torch.device("cpu")


class InOrder(TorchDispatchMode):
    """Refuses sums of floating-point numbers whose order is open."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        if any(word in name for word in UNORDERED) and args[0].is_floating_point():
            accumulates = args[3] is True if len(args) > 3 else (kwargs or {}).get("accumulate")
            assert not accumulates and "scatter" not in name, f"{name} adds in any order"
        return function(*args, **(kwargs or {}))


def step(training: Task) -> None:
    module = training.build()
    batch = next(iter(training.batches(0, 0, 1, CPU)))
    with InOrder():
        module(batch)["loss"].backward()


def test_the_watch_notices_an_indexed_table() -> None:
    table, rows = torch.randn(9, 4, requires_grad=True), torch.tensor([1, 1, 2])
    with InOrder():
        table.index_select(0, rows).sum().backward()
        with pytest.raises(AssertionError, match="index_put"):
            table[rows].sum().backward()


def test_pretraining(data: Any) -> None:
    step(task(data))


def test_depth() -> None:
    drive = open_frames("synthetic:seed=3,streets=1,frames=5,height=64,width=128")
    step(DepthTask(DEPTH, drive))


def test_street() -> None:
    step(StreetTask(StreetConfig(16, shots=4, batch_size=2)))


def test_finetuning() -> None:
    step(FinetuneTask(FINETUNE, STREET))
