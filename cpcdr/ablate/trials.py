"""The trials of a study: each trains a network, scores it and writes ``result.json``.

The state of a trial is its folder: a trial with a ``result.json`` is finished and never started
again, one that was killed resumes from its newest checkpoint. A study can therefore be continued
with more variants or seeds.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.measure import Material, colour_scores, measure
from cpcdr.ablate.variants import Variant, pretraining
from cpcdr.runtime.checkpoint import (
    newest_checkpoint,
    publish_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from cpcdr.runtime.device import default_device
from cpcdr.runtime.strict_json import read_json, write_json
from cpcdr.train.config import PretrainConfig
from cpcdr.train.history import read_history
from cpcdr.train.loop import LocalReporter, train_loop
from cpcdr.train.pretrain_task import task_of
from cpcdr.trials.runner import TrialSlots, run_trials

LAST = ("loss_over_lnK", "prototypes_used", "pasted_fraction", "points_with_positive")
"""Training metrics whose last values go into a trial's result."""


@dataclass(frozen=True)
class StudyTrial:
    """One variant with one seed."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Unique in the study."""
        return f"{self.variant.name}-seed-{self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """What all trials of a study share.

    Attributes:
        config: of the study; its ``out`` is absolute.
        datasets: the dataset folder of each kind of regions.
        material: files that trials are scored with.
        trials: of the study.
    """

    config: AblateConfig
    datasets: Mapping[str, Path]
    material: Material
    trials: tuple[StudyTrial, ...]

    @property
    def seeds(self) -> list[int]:
        """Seeds of all trials, in order."""
        return list(dict.fromkeys(trial.seed for trial in self.trials))

    def trial(self, name: str) -> StudyTrial:
        """The trial with this name; Tune's parameters may hold plain values only."""
        return next(trial for trial in self.trials if trial.name == name)

    def folder(self, trial: StudyTrial) -> Path:
        """The folder of a trial's checkpoints, history and result."""
        return self.config.out / "trials" / trial.variant.name / f"seed-{trial.seed}"

    def settings(self, trial: StudyTrial) -> PretrainConfig:
        """The pre-training of a trial."""
        data, config = self.datasets[trial.variant.regions], self.config
        return pretraining(trial.variant, config.pretrain, data, trial.seed, config.steps)

    def with_statistics_of_batches(self, trial: StudyTrial) -> StudyTrial | None:
        """The trial whose training is that of a ``clean-norm`` one but for its statistics."""
        settings = self.settings(trial)
        if settings.model.norm != "clean":
            return None
        wanted = replace(settings, model=replace(settings.model, norm="batch"))
        others = (t for t in self.trials if t.variant.trained and t.seed == trial.seed)
        return next((t for t in others if self.settings(t) == wanted), None)

    def result(self, trial: StudyTrial) -> dict[str, Any] | None:
        """The result of a finished trial; None if it is not finished."""
        path = self.folder(trial) / "result.json"
        return read_json(path) if path.exists() else None

    def finished(self) -> int:
        """Number of finished trials in the study's folder, including those of earlier starts."""
        return len(list(self.config.out.glob("trials/*/seed-*/result.json")))


def run_trial(parameters: dict[str, Any], plan: StudyPlan) -> None:
    """Run one trial in a process of Tune."""
    from ray import tune

    trial = plan.trial(parameters["trial"])
    if plan.result(trial) is None:
        start, folder = time.perf_counter(), plan.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        if trial.variant.trained:
            checkpoint = trained(trial, plan, LocalReporter(_tell_step))
        else:
            checkpoint = untrained(trial, plan)
        result: dict[str, Any] = {"variant": trial.variant.name, "seed": trial.seed}
        result["checkpoint"] = str(checkpoint)
        last = (read_history(folder / "history.jsonl") or [{}])[-1]
        result |= {name: last[name] for name in LAST if name in last}
        result |= measure(checkpoint, plan.material, plan.config.clustering, trial.seed)
        if not trial.variant.trained:
            baseline = colour_scores(plan.material, trial.seed)
            result |= {f"colour_{name}": value for name, value in baseline.items()}
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_json(folder / "result.json", result)
    tune.report({"step": plan.config.steps, "finished": True})


def trained(trial: StudyTrial, plan: StudyPlan, reporter: LocalReporter) -> Path:
    """Train from the newest checkpoint to the last step; the final checkpoint."""
    settings, folder = plan.settings(trial), plan.folder(trial)
    final = folder / "checkpoint"
    if final.exists():
        return final
    same = plan.with_statistics_of_batches(trial)
    if same is not None and (plan.folder(same) / "checkpoint").exists():
        return cleaned(trial, plan.folder(same), plan)
    result = train_loop(task_of(settings), settings.train, folder, reporter)
    if result["alarm"]:
        raise RuntimeError(f"{trial.name}: {result['alarm']}")
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None, "a finished training has a checkpoint"
    publish_checkpoint(newest, final)
    shutil.rmtree(folder / "checkpoints")
    return final


def cleaned(trial: StudyTrial, trained: Path, plan: StudyPlan) -> Path:
    """The network of another trial's folder, with statistics of clean frames: a checkpoint.

    Weights never depend on running statistics in training, so that this is what ``trial`` would
    have ended with.
    """
    settings, folder = plan.settings(trial), plan.folder(trial)
    task = task_of(settings)
    values, weights = read_checkpoint(trained / "checkpoint", task.kind)
    module = task.build()
    module.load_state_dict(weights)
    layout = torch.channels_last if settings.train.channels_last else torch.contiguous_format
    module = module.to(default_device(), memory_format=layout)  # type: ignore[call-overload]
    task.validate(module)
    values["config"] = task.config()
    shutil.copy(trained / "history.jsonl", folder / "history.jsonl")
    save_checkpoint(folder / "checkpoint", values["step"], values, module.state_dict())
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of a training that was begun before
    return folder / "checkpoint"


def _tell_step(metrics: dict[str, float]) -> None:
    """Tell the driver how far the training is; it reads the rest from the history file."""
    from ray import tune

    tune.report({"step": metrics["step"]})


def untrained(trial: StudyTrial, plan: StudyPlan) -> Path:
    """A checkpoint of the initial network of the trainings with this seed."""
    settings, folder = plan.settings(trial), plan.folder(trial)
    task = task_of(settings)
    torch.manual_seed(trial.seed)
    weights = task.build().state_dict()
    values = {"kind": task.kind, "config": task.config(), "metrics": {}}
    save_checkpoint(folder / "checkpoint", 0, values, weights)
    return folder / "checkpoint"


def run_study(plan: StudyPlan, callback: Any) -> None:
    """Run the trials that are not finished.

    Raises:
        InputError: no machine has room for a trial.
        KeyboardInterrupt: the command was stopped.
    """
    from ray import tune

    left = [trial for trial in plan.trials if plan.result(trial) is None]
    left.sort(key=lambda trial: plan.with_statistics_of_batches(trial) is not None)  # last
    if pending := [trial.name for trial in left]:
        run_trials(
            run_trial,
            plan,
            {"trial": tune.grid_search(pending)},
            name=lambda parameters: str(parameters["trial"]),
            folder=plan.config.out / "tune",
            slots=TrialSlots(plan.config.concurrent),
            callback=callback,
        )
