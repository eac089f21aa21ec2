"""What two ranks of a training share: gradients always, buffers when a checkpoint is due."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from test_loop import CONFIG, TOTAL, LinearTask
from test_ranks_fail_together import Rank
from torch import nn

from cpcdr.runtime.checkpoint import newest_checkpoint, read_checkpoint
from cpcdr.train.loop import train_loop


class Watched(LinearTask):
    """Keeps the running mean that each rank has after every step, and in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[list[float]] = []
        self.checked: list[list[float]] = []

    def after_step(self, model: nn.Module) -> None:
        self.after.append(model.norm.running_mean.tolist())  # type: ignore[union-attr, operator]

    def validate(self, model: nn.Module) -> dict[str, float]:
        self.checked.append(model.norm.running_mean.tolist())  # type: ignore[union-attr, operator]
        return {}


def work(rank: int, folder: Path, told: Any) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    task = Watched()
    train_loop(task, CONFIG, folder / "run", Rank(rank))
    told.put((rank, task.after, task.checked))
    dist.destroy_process_group()


@pytest.mark.slow
def test_buffers_are_rank_0s_in_every_checkpoint_and_each_ranks_own_between(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    context = multiprocessing.get_context("fork")  # PyTorch is imported already
    told: Any = context.Queue()
    workers = [context.Process(target=work, args=(rank, tmp_path, told)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = sorted(told.get(timeout=100) for _ in workers)
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    (_, first, checked), (_, second, also) = found
    assert checked == also and len(checked) == -(-TOTAL // CONFIG.checkpoint_every)
    assert len(first) == len(second) == TOTAL
    assert all(a != b for a, b in zip(first, second, strict=True)), "nothing is sent in between"
    assert first[-1] == checked[-1], "rank 0 keeps its own"
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest, "linear")[1]["norm.running_mean"].tolist() == checked[-1]
