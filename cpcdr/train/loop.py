"""The one worker loop: every training runs through `train_loop`, under Ray Train or in-process.

Everything random is a function of (seed, step, rank), so the position in the data is one number,
the step, and a resumed training repeats what an uninterrupted one would have done, on CPUs bit by
bit; GPUs add up in any order. Rank 0 writes
three things into the run folder, which all workers and the driver can reach:

``checkpoints/``    see `cpcdr.runtime.checkpoint`
``history.jsonl``   a line of metrics every ``log_every`` steps, cut back to the checkpoint on
                    resume: gapless and without doubles
``progress.json``   where the training is, for the driver's progress bar
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cpcdr.runtime.checkpoint import (
    WEIGHTS,
    newest_whole_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    read_state,
    write_checkpoint,
)
from cpcdr.runtime.config import write_atomic
from cpcdr.runtime.device import default_device
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.ranks import follow_rank_0, sum_over_ranks, together
from cpcdr.runtime.strict_json import to_json
from cpcdr.train.compiling import Passes, compile_module
from cpcdr.train.config import TrainConfig
from cpcdr.train.history import append_history, cut_history
from cpcdr.train.optimizer import amp, learning_rate, make_optimizer, resolve_precision
from cpcdr.train.task import Task

_TELL_EVERY_S = 1.0


class Reporter(Protocol):
    """What the loop knows of the engine that runs it."""

    rank: int
    world_size: int
    device: torch.device

    def report(self, metrics: dict[str, float]) -> None:
        """Called on every rank after each checkpoint; may raise to stop the training early."""


@dataclass
class LocalReporter:
    """One worker in this process.

    Attributes:
        report: called after each checkpoint with the last metrics and ``step``; does nothing by
            default, as the history file holds the metrics.
    """

    report: Callable[[dict[str, float]], None] = lambda metrics: None
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=default_device)


def train_loop(
    task: Task,
    config: TrainConfig,
    out: Path,
    reporter: Reporter,
    leaving: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train until the last step, from the newest checkpoint in ``out`` if there is one.

    Args:
        leaving: whether a machine is about to be taken away, the same on all ranks; asked with
            every line of metrics. A checkpoint follows at once, and training continues.

    Returns:
        ``step``, and ``alarm``: a sentence if the training had to stop, else ``""``.
    """
    session = _Session(task, config, out, reporter, leaving)
    step = together(session.resume)
    with closing(session):
        while step < session.total and not session.is_stale(step):
            alarm = session.step(step)
            if alarm:
                return {"step": step, "alarm": alarm}
            step += 1
    return {"step": step, "alarm": ""}


def total_steps(task: Task, config: TrainConfig, world_size: int) -> int:
    """Optimiser steps of a training, unless it stops early."""
    batches = config.epochs * task.steps_per_epoch(world_size)
    return config.steps or max(1, batches // config.accumulate)


class _Session:
    """The state of one worker: module, optimiser, data iterator, metrics since the last line."""

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        out: Path,
        reporter: Reporter,
        leaving: Callable[[], bool],
    ) -> None:
        self.task, self.config, self.out, self.reporter = task, config, out, reporter
        self.leaving, self.warned = leaving, False
        self.per_epoch = task.steps_per_epoch(reporter.world_size)  # batches of this rank
        self.total = total_steps(task, config, reporter.world_size)
        self.warmup = max(1, round(config.warmup * self.total))
        self.every = config.checkpoint_every or max(1, self.per_epoch // config.accumulate)
        torch.manual_seed(task.seed)
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = together(task.build).to(reporter.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(task.parameter_groups(self.model), config)
        self.precision = resolve_precision(config.precision, reporter.device)
        self.autocast, self.scaler = amp(self.precision, reporter.device)
        self.wrapped = self._wrap()
        self.passes = Passes(self.wrapped, config.compile)
        self.batches: Iterator[dict[str, Any]] | None = None
        self.sums: dict[str, Tensor] = {}
        self.last: dict[str, float] = {}
        self.best: dict[str, float] = {"step": 0, "held_out": math.inf}
        self.count, self.waited, self.since = 0, 0.0, time.perf_counter()
        self.tell_next = 0.0

    def _wrap(self) -> nn.Module:
        module: nn.Module = self.model
        # CUDA graphs write the gradients of every call to one place, where they could not add up.
        c, r = self.config, self.reporter
        compile_module(module, c.compile, r.device, r.world_size, graphs=c.accumulate == 1)
        if self.reporter.world_size > 1:
            ids = [self.reporter.device.index] if self.reporter.device.type == "cuda" else None
            # Buffers follow rank 0 when a checkpoint is due, see `_validate`: not on every forward.
            module = DistributedDataParallel(
                module,
                device_ids=ids,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                static_graph=False,
            )
        return module

    def resume(self) -> int:
        """Load the newest checkpoint; the step to do next."""
        checkpoint = newest_whole_checkpoint(self.out / "checkpoints")
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
            if self.config.precision == "auto":  # as it began, also on another device
                self.precision = values.get("precision", self.precision)
                self.autocast, self.scaler = amp(self.precision, self.reporter.device)
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            step = int(values["step"])
            self.best = values.get("best", self.best)
        if self.reporter.rank == 0:
            cut_history(self.out / "history.jsonl", step)
        return step

    def close(self) -> None:
        """Stop reading ahead."""
        if isinstance(self.batches, Generator):
            self.batches.close()

    def step(self, step: int) -> str:
        """One optimiser step with its metrics and checkpoint; an alarm sentence or ``""``."""
        for key, value in self._optimise(step).items():
            self.sums[key] = self.sums.get(key, 0.0) + value.detach().float()
        self.count += 1
        done, alarm = step + 1, ""
        if time.monotonic() >= self.tell_next:
            self._tell(done)
        saves = done % self.every == 0 or done == self.total
        # A line of metrics never spans a checkpoint, so that a resumed history is the same.
        if saves or done % self.config.log_every == 0:
            alarm = self._log(step, self._validate(done) if saves else {})
            saves = saves or self._has_notice()
        if saves and not alarm:
            alarm = self._checkpoint(done)
        return alarm

    def is_stale(self, step: int) -> bool:
        """Whether held-out data has seen no improvement for ``patience`` checkpoints."""
        patience = self.config.patience * self.every
        return bool(patience) and step - self.best["step"] >= patience and self.best["step"] > 0

    def _validate(self, done: int) -> dict[str, float]:
        """What held-out data says; all ranks have rank 0's buffers then, as after a resume."""
        follow_rank_0(self.model.buffers())
        if done == self.total:
            self.task.finish(self.model)
        metrics = self.task.validate(self.model)
        if metrics and self.reporter.world_size > 1:  # all ranks go on or stop together
            values = torch.tensor(list(metrics.values()), device=self.reporter.device)
            mean = sum_over_ranks(values) / self.reporter.world_size
            metrics = dict(zip(metrics, mean.tolist(), strict=True))
        if metrics.get("restarted"):
            self.optimizer.state.clear()
        if metrics.get("held_out", math.inf) < self.best["held_out"]:
            self.best = {"step": done, "held_out": metrics["held_out"]}
        return metrics

    def _has_notice(self) -> bool:
        """Whether a machine is about to go, the first time that this is known."""
        if not self.warned and self.leaving():
            self.warned = True
            return True
        return False

    def _optimise(self, step: int) -> dict[str, Tensor]:
        c = self.config
        rate = learning_rate(step, self.total, self.warmup, c.lr, c.final_lr, c.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"] * (step >= group.get("starts", 0.0) * self.total)
        self.optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, Tensor] = {}
        for number in range(step * c.accumulate, (step + 1) * c.accumulate):
            for key, value in self._backward(number).items():
                metrics[key] = metrics.get(key, 0.0) + value.detach().float() / c.accumulate
        self.scaler.unscale_(self.optimizer)
        limit = c.clip_norm or math.inf
        metrics["grad_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.task.after_step(self.model)
        metrics["lr"] = torch.full((), rate, device=self.reporter.device)
        return metrics

    def _backward(self, number: int) -> dict[str, Tensor]:
        """Adds the gradient of a batch, counted from the start of the training; its metrics."""
        batch = together(partial(self._next_batch, number))

        def both() -> dict[str, Tensor]:
            # Anything drawn inside the module is a function of (seed, batch, rank) as well.
            torch.manual_seed(hash_seed(self.task.seed, number, self.reporter.rank))
            with self.autocast:
                metrics = dict(self.wrapped(batch))
            self.scaler.scale(metrics["loss"] / self.config.accumulate).backward()
            return metrics

        last = (number + 1) % self.config.accumulate == 0
        ddp = self.wrapped if isinstance(self.wrapped, DistributedDataParallel) else None
        with nullcontext() if last or ddp is None else ddp.no_sync():
            return self.passes(both)

    def _next_batch(self, number: int) -> dict[str, Any]:
        start = time.perf_counter()
        if self.batches is None:
            r = self.reporter
            self.batches = iter(self.task.batches(number, r.rank, r.world_size, r.device))
        batch = next(self.batches)
        self.waited += time.perf_counter() - start
        return batch

    def _log(self, step: int, validation: dict[str, float]) -> str:
        """Mean metrics since the last line, over all ranks, into the history and the progress."""
        names = sorted(self.sums)
        values = torch.stack([self.sums[name].reshape(()) for name in names]) / self.count
        if self.reporter.world_size > 1:
            values = sum_over_ranks(values) / self.reporter.world_size
        row = dict(zip(names, values.tolist(), strict=True))
        elapsed = max(1e-9, time.perf_counter() - self.since)
        row |= {
            "seconds_per_step": elapsed / self.count,
            "data_wait_fraction": self.waited / elapsed,
        }
        if self.reporter.device.type == "cuda":
            row["gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
        self.sums, self.count, self.waited, self.since = {}, 0, 0.0, time.perf_counter()
        epoch = (step + 1) * self.config.accumulate / self.per_epoch
        line = {"step": step + 1, "epoch": epoch, **row, **validation}
        if self.reporter.rank == 0:
            append_history(self.out / "history.jsonl", line)
        self.last = line
        self._tell(step + 1)
        if not math.isfinite(row["loss"]):
            return (
                f"the loss is {row['loss']} at step {step + 1}; lower --train.lr, or set "
                "--train.clip-norm 1, and run again with a new --out."
            )
        return self.task.alarm(line, (step + 1) / self.total)

    def _tell(self, done: int) -> None:
        """Write where the training is, with its last metrics, for the driver's progress bar."""
        self.tell_next = time.monotonic() + _TELL_EVERY_S
        if self.reporter.rank == 0:
            values = {**self.last, "step": done, "total": self.total, "pid": os.getpid()}
            with suppress(OSError):  # a full disk matters when a checkpoint is written
                write_atomic(self.out / "progress.json", to_json(values), durable=False)

    def _checkpoint(self, done: int) -> str:
        """Rank 0 writes; all ranks get a sentence if it could not, else ``""``."""
        alarm = self._write_checkpoint(done) if self.reporter.rank == 0 else ""
        if self.reporter.world_size > 1:
            # No rank continues before the checkpoint is there.
            failed = sum_over_ranks(torch.tensor(float(bool(alarm)), device=self.reporter.device))
            alarm = alarm or ("rank 0 could not write its checkpoint" if failed.item() else "")
        if not alarm:
            self.reporter.report({**self.last, "step": done})
        return alarm

    def _write_checkpoint(self, done: int) -> str:
        root = self.out / "checkpoints"
        try:
            state = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            config: dict[str, Any] = {
                "kind": self.task.kind,
                "config": self.task.config(),
                "metrics": self.last,
            }
            config |= {"workers": self.reporter.world_size, "precision": self.precision}
            if self.best["step"]:
                config |= {"best": self.best}
            write_checkpoint(root, done, config, self.model.state_dict(), state)
            prune_checkpoints(root, int(self.best["step"]) or None)
        except OSError as error:  # a full disk, a used up quota
            return (
                f"the checkpoint of step {done} cannot be written ({error.strerror}); make room "
                "and run the same command again, which resumes from the one before."
            )
        return ""


def hash_seed(*numbers: int) -> int:
    """A 63-bit seed from several integers (splitmix64), the same on every machine."""
    value = 0
    for number in numbers:
        value = (value + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1
