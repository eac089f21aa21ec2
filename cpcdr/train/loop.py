"""The one worker loop: every training runs through `train_loop`, under Ray Train or in-process.

Everything random is a function of (seed, step, rank), so the position in the data is one number,
the step, and a resumed training repeats what an uninterrupted one would have done. Rank 0 writes
three things into the run folder, which all workers and the driver can reach:

``checkpoints/``    see `cpcdr.checkpoint`
``history.jsonl``   a line of metrics every ``log_every`` steps, cut back to the checkpoint on
                    resume: gapless and without doubles
``progress.json``   where the training is, for the driver's progress bar
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cpcdr.checkpoint import (
    WEIGHTS,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    read_state,
    write_checkpoint,
)
from cpcdr.config import write_atomic
from cpcdr.errors import InputError
from cpcdr.train.history import append_history, cut_history
from cpcdr.train.schedule import SHAPES, learning_rate
from cpcdr.train.task import Task


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation, for every task.

    Attributes:
        epochs: passes over the data.
        steps: optimiser steps in all; 0 takes ``epochs``.
        optimizer: ``sgd`` (momentum 0.9) or ``adamw``.
        lr: peak learning rate.
        final_lr: learning rate at the end.
        schedule: ``cosine`` or ``poly``, how it gets there.
        warmup: share of all steps with a rising learning rate (the paper's 2 of 25 epochs).
        weight_decay: of weight matrices and kernels.
        clip_norm: largest gradient norm; 0 switches clipping off.
        precision: ``auto`` (bf16 where GPU or CPU compute in it, else float32), ``float32``,
            ``bf16``, ``fp16``.
        channels_last: memory format of the network.
        compile: torch.compile the network.
        log_every: steps between two lines of metrics.
        checkpoint_every: steps between two checkpoints; 0: once an epoch.
        seed: of weights, data order and every random draw.
    """

    epochs: int = 25
    steps: int = 0
    optimizer: str = "sgd"
    lr: float = 0.1
    final_lr: float = 1e-5
    schedule: str = "cosine"
    warmup: float = 0.08
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    log_every: int = 10
    checkpoint_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adamw"):
            raise InputError(f"optimizer '{self.optimizer}' is unknown; choose sgd or adamw.")
        if self.schedule not in SHAPES:
            raise InputError(f"schedule '{self.schedule}' is unknown; choose cosine or poly.")
        if self.precision not in ("auto", "float32", "bf16", "fp16"):
            raise InputError(
                f"precision '{self.precision}' is unknown; choose auto, float32, bf16 or fp16."
            )
        if self.epochs < 1 or self.steps < 0 or self.log_every < 1:
            raise InputError("epochs and log_every must be at least 1, and steps at least 0.")


class Reporter(Protocol):
    """What the loop knows of the engine that runs it."""

    rank: int
    world_size: int
    device: torch.device

    def report(self, metrics: dict[str, float]) -> None:
        """Called on every rank after each checkpoint; may raise to stop the training early."""


def train_loop(task: Task, config: TrainConfig, out: Path, reporter: Reporter) -> dict[str, Any]:
    """Train until the last step, from the newest checkpoint in ``out`` if there is one.

    Returns:
        ``step``, and ``alarm``: a sentence if the training had to stop, else ``""``.
    """
    session = _Session(task, config, out, reporter)
    first = session.resume()
    for step in range(first, session.total):
        alarm = session.step(step)
        if alarm:
            return {"step": step, "alarm": alarm}
    return {"step": session.total, "alarm": ""}


class _Session:
    """The state of one worker: module, optimiser, data iterator, metrics since the last line."""

    def __init__(self, task: Task, config: TrainConfig, out: Path, reporter: Reporter) -> None:
        self.task, self.config, self.out, self.reporter = task, config, out, reporter
        self.per_epoch = task.steps_per_epoch(reporter.world_size)
        self.total = config.steps or config.epochs * self.per_epoch
        self.warmup = max(1, round(config.warmup * self.total))
        self.every = config.checkpoint_every or self.per_epoch
        torch.manual_seed(config.seed)
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = task.build().to(reporter.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(task.parameter_groups(self.model), config)
        self.precision, self.scaler = amp(config.precision, reporter.device)
        self.wrapped = self._wrap()
        self.batches: Iterator[dict[str, Any]] = iter(())
        self.sums: dict[str, Tensor] = {}
        self.last: dict[str, float] = {}
        self.count, self.waited, self.since = 0, 0.0, time.perf_counter()

    def _wrap(self) -> nn.Module:
        module: nn.Module = self.model
        if self.config.compile:
            module = torch.compile(module)  # type: ignore[assignment]
        if self.reporter.world_size > 1:
            ids = [self.reporter.device.index] if self.reporter.device.type == "cuda" else None
            # Buffers follow rank 0 on every forward, so that rank 0's checkpoint is everyone's.
            module = DistributedDataParallel(
                module, device_ids=ids, gradient_as_bucket_view=True, static_graph=False
            )
        return module

    def resume(self) -> int:
        """Load the newest checkpoint; the step to do next."""
        checkpoint = newest_checkpoint(self.out / "checkpoints")
        step = 0
        if checkpoint is not None:
            values, weights = read_checkpoint(checkpoint, self.task.kind)
            try:
                self.model.load_state_dict(weights)
            except RuntimeError as error:
                raise InputError(
                    f"{checkpoint / WEIGHTS}: does not fit this configuration; give another --out, "
                    "or the configuration that the run was started with."
                ) from error
            state = read_state(checkpoint)
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            step = int(values["step"])
        if self.reporter.rank == 0:
            cut_history(self.out / "history.jsonl", step)
        return step

    def step(self, step: int) -> str:
        """One optimiser step with its metrics and checkpoint; an alarm sentence or ``""``."""
        start = time.perf_counter()
        batch = self._next_batch(step)
        self.waited += time.perf_counter() - start
        # Anything drawn inside the module is a function of (seed, step, rank) as well.
        torch.manual_seed(hash_seed(self.config.seed, step, self.reporter.rank))
        metrics = self._optimise(step, batch)
        for key, value in metrics.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach().float()
        self.count += 1
        done, alarm = step + 1, ""
        saves = done % self.every == 0 or done == self.total
        # A line of metrics never spans a checkpoint, so that a resumed history is the same.
        if saves or done % self.config.log_every == 0:
            alarm = self._log(step)
        if saves and not alarm:
            self._checkpoint(done)
        return alarm

    def _next_batch(self, step: int) -> dict[str, Any]:
        batch = next(self.batches, None)
        if batch is None:
            epoch, within = divmod(step, self.per_epoch)
            r = self.reporter
            self.batches = iter(self.task.batches(epoch, within, r.rank, r.world_size, r.device))
            batch = next(self.batches)
        return batch

    def _optimise(self, step: int, batch: dict[str, Any]) -> dict[str, Tensor]:
        c = self.config
        rate = learning_rate(step, self.total, self.warmup, c.lr, c.final_lr, c.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        with self.precision:
            metrics = dict(self.wrapped(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(metrics["loss"]).backward()
        self.scaler.unscale_(self.optimizer)
        limit = c.clip_norm or math.inf
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.task.after_step(self.model)
        metrics["lr"] = torch.tensor(rate, device=self.reporter.device)
        return metrics

    def _log(self, step: int) -> str:
        """Mean metrics since the last line, over all ranks, into the history and the progress."""
        names = sorted(self.sums)
        values = torch.stack([self.sums[name].reshape(()) for name in names]) / self.count
        if self.reporter.world_size > 1:
            dist.all_reduce(values)
            values /= self.reporter.world_size
        row = dict(zip(names, values.tolist(), strict=True))
        elapsed = max(1e-9, time.perf_counter() - self.since)
        row |= {"seconds_per_step": elapsed / self.count, "data_wait_share": self.waited / elapsed}
        if self.reporter.device.type == "cuda":
            row["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
        self.sums, self.count, self.waited, self.since = {}, 0, 0.0, time.perf_counter()
        line = {"step": step + 1, "epoch": (step + 1) / self.per_epoch, **row}
        if self.reporter.rank == 0:
            append_history(self.out / "history.jsonl", line)
            write_atomic(
                self.out / "progress.json",
                json.dumps({**line, "total": self.total, "pid": os.getpid()}),
            )
        self.last = line
        if not math.isfinite(row["loss"]):
            return (
                f"the loss is {row['loss']} at step {step + 1}; lower --train.lr, or set "
                "--train.clip-norm 1, and run again with a new --out."
            )
        return ""

    def _checkpoint(self, done: int) -> None:
        if self.reporter.rank == 0:
            root = self.out / "checkpoints"
            state = {
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            config = {"kind": self.task.kind, "config": self.task.config(), "metrics": self.last}
            write_checkpoint(root, done, config, self.model.state_dict(), state)
            prune_checkpoints(root)
        if self.reporter.world_size > 1:
            dist.barrier()
        self.reporter.report({**self.last, "step": done})


def make_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW; vectors (biases, norms) are not decayed."""
    split: list[dict[str, Any]] = []
    for group in groups:
        params, scale = [p for p in group["params"] if p.requires_grad], group.get("lr_scale", 1.0)
        for decayed in (True, False):
            chosen = [p for p in params if (p.ndim > 1) == decayed]
            decay = config.weight_decay if decayed else 0.0
            if chosen:
                split.append({"params": chosen, "lr_scale": scale, "weight_decay": decay})
    fused = all(p.is_cuda for group in split for p in group["params"])
    if config.optimizer == "adamw":
        return torch.optim.AdamW(split, lr=config.lr, fused=fused)
    return torch.optim.SGD(split, lr=config.lr, momentum=0.9, fused=fused)


def amp(
    precision: str, device: torch.device
) -> tuple[AbstractContextManager[Any], torch.amp.GradScaler]:
    """The autocast context and the gradient scaler (active with fp16 only)."""
    if precision == "auto":
        precision = "bf16" if _computes_bf16(device) else "float32"
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    if precision == "float32":
        return nullcontext(), scaler
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype), scaler


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def hash_seed(*numbers: int) -> int:
    """A 63-bit seed from several integers (splitmix64), the same on every machine."""
    value = 0
    for number in numbers:
        value = (value + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1
