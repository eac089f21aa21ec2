"""Running the worker loop: under Ray Train (default), or in this process without Ray."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cpcdr.runtime.checkpoint import (
    CONFIG,
    best_checkpoint,
    newest_checkpoint,
    publish_checkpoint,
    read_state,
    set_damaged_aside,
)
from cpcdr.runtime.config import read_yaml, to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.map_frames import room_for
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.repeat import repeated
from cpcdr.runtime.run_folder import claim
from cpcdr.runtime.session import on_cluster, ray_session, refuse_what_never_fits
from cpcdr.train.config import EngineConfig, TrainConfig
from cpcdr.train.history import HistoryTail
from cpcdr.train.loop import LocalReporter, total_steps, train_loop
from cpcdr.train.ray_record import RayReporter, record_of
from cpcdr.train.task import Task

Log = Callable[[dict[str, float], int], None]
"""Gets a line of metrics and its step."""


def train(
    task: Task,
    config: TrainConfig,
    engine: EngineConfig,
    out: Path,
    log: Log = lambda metrics, step: None,
    inputs: Mapping[str, Any] | None = None,
) -> Path:
    """Train ``task`` in the run folder ``out``, resuming where an earlier call stopped.

    Args:
        log: called in this process with every line of metrics and its step, in order, once each.

        inputs: digests of what is trained on and how it is read, which the task's own
            configuration does not hold: part of the identity of the run.

    Returns:
        ``out/checkpoint``, the finished network.

    Raises:
        InputError: ``out`` belongs to another configuration, the machine is too small, or the
            training had to stop (the loss is not finite).
    """
    out = out.absolute()
    final = out / "checkpoint"
    identity = {"kind": task.kind, "task": task.config(), "train": to_plain(config)}
    identity |= {"inputs": to_plain(inputs)} if inputs else {}
    # May change on resuming: how often it logs, and whether it is compiled.
    # The weights that it starts from count, not where they lie.
    free = ("train.log_every", "train.compile", "task.model.init", "task.network")
    claim(out, "run.yaml", identity, "a training", free=free)
    for sentence in set_damaged_aside(out / "checkpoints"):
        print(f"warning: {sentence}.")
    _refuse_a_full_disk(out, task, config)
    if engine.engine == "local":
        _warn_if_elastic(out, 1)
        with _monitor(out, log, task.kind, total_steps(task, config, 1), "first steps"):
            result = train_loop(task, config, out, LocalReporter())
    else:
        result = _train_on_ray(task, config, engine, out, log)
    if result["alarm"]:
        raise InputError(f"{out}: {result['alarm']}")
    best = best_checkpoint(out / "checkpoints")
    read_state(best)
    publish_checkpoint(best, final)
    return final


@phase("building the network")
def _refuse_a_full_disk(out: Path, task: Task, config: TrainConfig) -> None:
    """A new run needs room for the two checkpoints it keeps, one in the making, and the last."""
    if newest_checkpoint(out / "checkpoints"):
        return
    weights = sum(t.numel() * t.element_size() for t in task.build().state_dict().values())
    state = weights * {"sgd": 1, "adamw": 2}[config.optimizer]
    needed, free = 3 * (weights + state) + weights, shutil.disk_usage(out).free
    if free < needed:
        mib = 2**20
        raise InputError(
            f"{out}: 3 checkpoints x ({weights / mib:.1f} MiB of weights + {state / mib:.1f} of "
            f"the optimiser) + {weights / mib:.1f} at the end need {needed / mib:.1f} MiB, and "
            f"{free / mib:.1f} are free; make room, or give an --out on another disk."
        )


def _train_on_ray(
    task: Task, config: TrainConfig, engine: EngineConfig, out: Path, log: Log
) -> dict[str, Any]:
    with ray_session(engine.dashboard):
        import ray
        import ray.train
        from ray.train.torch import TorchTrainer

        from cpcdr.train.ray_group import torch_config

        class Trainer(TorchTrainer):
            """Ctrl-C unwinds the command, which closes its run, as SIGTERM does."""

            def _register_sigint_handler(self, controller: Any) -> None:
                """Ray's handler would end the process where it is, with exit code 1."""

        (workers, use_gpu), cpus = workers_of(engine), engine.cpus_per_worker
        options = "lower --workers or --cpus-per-worker"
        needs = {"CPU": cpus, "GPU": 1.0} if use_gpu else {"CPU": cpus}
        refuse_what_never_fits("workers", workers, needs, options)
        _warn_if_elastic(out, workers)
        total = total_steps(task, config, workers)  # refuses too little data before a worker does
        record = record_of(out, engine.storage_path)
        record.begin()
        if engine.storage_path:
            print(f"Ray Train's record: {record.root}")
        threads = 0 if use_gpu else max(1, (os.cpu_count() or 1) // workers)
        with torch_config() as group, _monitor(out, log, task.kind, total, "workers start"):
            # Ray's annotations describe Train V1; V2, which runs, takes a return value and logging.
            trainer = Trainer(
                _ray_worker,  # type: ignore[arg-type]
                train_loop_config={
                    "task": task,
                    "config": config,
                    "out": out,
                    "record": record,
                    "threads": threads,
                    "cluster": on_cluster(),
                },
                torch_config=group,
                scaling_config=ray.train.ScalingConfig(
                    num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}
                ),
                run_config=ray.train.RunConfig(
                    name=record.name,
                    storage_path=record.storage,
                    storage_filesystem=record.system,
                    failure_config=ray.train.FailureConfig(max_failures=engine.max_failures),
                    logging_config=ray.train.LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
                ),
            )
            return trainer.fit().return_value  # type: ignore[attr-defined]


def workers_of(engine: EngineConfig) -> tuple[int, bool]:
    """How many workers there shall be, and whether each has a GPU: for a session of Ray.

    GPUs are counted that a growing cluster may still start.
    """
    gpus = room_for("ray").gpus
    use_gpu = gpus > 0 if engine.gpu == "auto" else engine.gpu == "yes"
    return engine.workers or (gpus if use_gpu else 0) or 2, use_gpu


def _ray_worker(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments["threads"]:
        torch.set_num_threads(arguments["threads"])
    task, config, out = (arguments[name] for name in ("task", "config", "out"))
    # On one's own machine nothing is taken away, and asking is a round trip of all workers.
    leaving = _leaving if arguments["cluster"] else lambda: False
    try:
        return train_loop(task, config, out, RayReporter(arguments["record"]), leaving)
    except InputError as error:  # retrying would not help: the driver reports the error
        return {"step": 0, "alarm": str(error)}


def _leaving() -> bool:
    """Whether Ray drains a machine of this training: a spot instance's notice, as an example."""
    import ray.train

    return ray.train.get_preemption_info() is not None


def _warn_if_elastic(out: Path, workers: int) -> None:
    """Resuming with a different number of workers works but is not bit-equal: warn."""
    newest = newest_checkpoint(out / "checkpoints")
    values = read_yaml(newest / CONFIG) if newest else {}
    before = values.get("workers", workers)
    if before != workers:
        print(
            f"{out}: the first {values['step']} steps had {before} workers, the next have "
            f"{workers}: each sees {workers}/{before} of the data that they saw, and the weights "
            "will not be those of an uninterrupted run."
        )


@contextmanager
def _monitor(out: Path, log: Log, title: str, total: int, warmup: str) -> Iterator[None]:
    """A progress bar, and the history file's new lines to ``log``, while the workers run.

    The history is tailed here, and not sent by the workers, so that a lost worker, a lost driver
    or a tracking server that is away leave the same record.
    """
    newest = newest_checkpoint(out / "checkpoints")
    done = int(read_yaml(newest / CONFIG).get("step", 0)) if newest else 0
    path = out / "progress.json"
    earlier = _text(path)  # of the start before
    tail = HistoryTail(out / "history.jsonl")

    def update() -> None:
        for row in tail.new_rows():
            finite = {k: v for k, v in row.items() if k != "step" and v is not None}
            log(finite, row["step"])
        if (text := _text(path)) != earlier:
            progress = json.loads(text)
            loss = progress.get("loss")
            bar.set_postfix_str("" if loss is None else f"loss {loss:.3f}", refresh=False)
            bar.reach(progress["step"])

    with Progress(total=total, initial=done, desc=title, unit="step", warmup=warmup) as bar:
        try:
            with repeated(update, 0.5):
                yield
        finally:
            update()


def _text(path: Path) -> str:
    """What a file holds; ``""`` while it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
