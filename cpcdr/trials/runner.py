"""Running trials through Ray Tune, which spreads them over the machines and may stop them early.

Trials keep their state in files of their own and the driver records every report, so Tune's state
is not needed: each start is a new Tune experiment over the trials that are left. It stays for those
who read it with Ray's own tools.
"""

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from cpcdr.runtime.session import logical_cpus, on_cluster, refuse_what_never_fits
from cpcdr.trials.child_run import Config

Trial = Callable[[Config, Any], None]
"""Runs one trial in a process of Tune: its parameters, and what all trials share."""


@dataclass(frozen=True)
class TrialSlots:
    """How many trials run at the same time, and what each of them gets.

    Attributes:
        gpus: GPUs of a trial, possibly a fraction of one; negative: an equal part of all GPUs, at
            most one.
        threads: CPU threads of a trial; 0: an equal part of those of the machine.
        remedy: what to change if a trial does not fit; the end of a sentence.
    """

    concurrent: int
    gpus: float = -1.0
    threads: int = 0
    remedy: str = "raise --concurrent"

    @property
    def per_machine(self) -> int:
        """Trials that share a machine: all of them, unless a cluster spreads them."""
        return 1 if on_cluster() else self.concurrent

    def resources(self) -> dict[str, float]:
        """``cpu`` and ``gpu`` that a trial reserves in the current Ray session.

        Raises:
            InputError: no machine can ever provide them.
        """
        import ray

        gpus = self.gpus
        if gpus < 0:
            gpus = min(1.0, float(ray.cluster_resources().get("GPU", 0)) / self.concurrent)
        needs = {"CPU": 1.0 if on_cluster() else logical_cpus() / self.concurrent}
        needs |= {"GPU": gpus} if gpus else {}
        refuse_what_never_fits("trials", 1, needs, self.remedy)
        return {name.lower(): amount for name, amount in needs.items()}


def run_trials(
    trial: Trial,
    shared: Any,
    parameters: Config,
    name: Callable[[Config], str],
    folder: Path,
    slots: TrialSlots,
    callback: Any,
    **tuning: Any,
) -> None:
    """Run trials in the current Ray session until all have ended.

    Args:
        trial: called in a process of Tune for each trial.
        shared: second argument of ``trial``; sent once for all trials.
        name: of the trial with these parameters, for Tune's logs.
        folder: of Tune's experiments; this one gets the next number in it.
        callback: receives every report and end, such as `cpcdr.trials.record.RecordTrials`.
        tuning: more arguments of ``ray.tune.TuneConfig``: scheduler, search algorithm ...

    Raises:
        InputError: no machine has room for a trial.
        KeyboardInterrupt: the command was stopped.
    """
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C must close the runs
    from ray import tune

    trainable = tune.with_parameters(
        _run_in_slot, trial=trial, shared=shared, threads=slots.threads, split=slots.per_machine
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, slots.resources()),
        param_space=parameters,
        tune_config=tune.TuneConfig(
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,  # a process has imported and compiled all that trials need
            trial_name_creator=lambda one: name(one.config),
            trial_dirname_creator=lambda one: name(one.config),
            **tuning,
        ),
        run_config=tune.RunConfig(
            name=_next_number(folder),
            storage_path=str(folder),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=1),
            # Of those that trials hand over to each other; the one before may still be read.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        ),
    )
    with redirect_stdout(StringIO()):  # Tune prints its settings even with verbose=0
        tuner.fit()


def _next_number(folder: Path) -> str:
    """The name of the next experiment: ``000``, ``001`` ..."""
    numbers = [int(path.name) for path in folder.glob("[0-9][0-9][0-9]")]
    return f"{max(numbers, default=-1) + 1:03d}"


def _run_in_slot(parameters: Config, trial: Trial, shared: Any, threads: int, split: int) -> None:
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // split))
    trial(parameters, shared)
