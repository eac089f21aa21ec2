"""Two DDP workers as bare processes, without Ray: what a training on a cluster is compared with."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cpcdr.runtime.checkpoint import newest_checkpoint, publish_checkpoint
from cpcdr.train.config import TrainConfig
from cpcdr.train.loop import train_loop
from cpcdr.train.task import Task


@dataclass
class Rank:
    """One of two workers; tells nobody."""

    rank: int
    world_size: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def report(self, metrics: dict[str, float]) -> None:
        pass


def train_in_two_processes(task: Task, config: TrainConfig, out: Path) -> list[str]:
    """Train in the run folder ``out``; the alarm of each rank."""
    out.mkdir(parents=True, exist_ok=True)
    meeting = out.with_name(out.name + ".meeting")
    meeting.unlink(missing_ok=True)
    context = multiprocessing.get_context("fork")  # PyTorch is imported already
    alarms: Any = context.Queue()
    arguments = [(rank, task, config, out, meeting, alarms) for rank in range(2)]
    workers = [context.Process(target=_work, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0, "a worker hangs, or failed"
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None
    publish_checkpoint(newest, out / "checkpoint")
    return [alarm for _, alarm in sorted(alarms.get() for _ in workers)]


def _work(
    rank: int, task: Task, config: TrainConfig, out: Path, meeting: Path, alarms: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    result = train_loop(task, config, out, Rank(rank))
    alarms.put((rank, result["alarm"]))
    dist.destroy_process_group()
