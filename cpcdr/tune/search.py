"""Search over region thresholds and prototype counts with Ray Tune.

A trial re-groups the cached graphs of one prepared dataset with its thresholds (milliseconds a
frame; trials with equal thresholds share the result by its hash), pre-trains for a few steps, and
is scored by the unsupervised protocol on held-out frames. Optuna's TPE proposes, ASHA stops the
hopeless early. Every trial is a child of one MLflow run; all records are written by the driver.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cpcdr.checkpoint import newest_checkpoint
from cpcdr.config import config_hash, overlay, to_plain, write_yaml
from cpcdr.dataset import read_manifest
from cpcdr.errors import InputError
from cpcdr.evaluate.driver import EvaluateConfig, evaluate
from cpcdr.frames import open_frames
from cpcdr.prepare import PrepareConfig, prepare
from cpcdr.prepare.regroup import regroup
from cpcdr.regions import RegionConfig
from cpcdr.session import logical_cpus, ray_session
from cpcdr.tracking import Run, TrackingConfig, open_run
from cpcdr.train.loop import train_loop
from cpcdr.train.pretrain import SMALL, PretrainConfig

STREET = "synthetic:seed=2000,streets=16,frames=6,height=96,width=192"
HELD_OUT = "synthetic:seed=3000,streets=12,frames=2,height=96,width=192"


@dataclass(frozen=True)
class TuneConfig:
    """Find the region thresholds and the number of prototypes that segment best.

    Attributes:
        data: a prepared dataset; empty: one of the synthetic street is made.
        evaluate: labelled frames that score a trial; not those of ``data``.
        trials: how many settings to try.
        concurrent: trials at the same time.
        steps: optimiser steps of a full trial; ASHA stops weak ones at a third of them.
        out: folder of the search; run the same command again to continue.
        seed: of the search and of every trial.
    """

    data: Path = Path()
    evaluate: str = HELD_OUT
    trials: int = 12
    concurrent: int = 2
    steps: int = 90
    out: Path = Path("runs/tune")
    seed: int = 0
    pretrain: PretrainConfig = field(default_factory=lambda: SMALL)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        if min(self.trials, self.concurrent) < 1 or self.steps < 3:
            raise InputError("--trials and --concurrent must be at least 1, --steps at least 3.")


@dataclass
class TuneReporter:
    """The engine of a trial: one worker in Tune's process, scored after each checkpoint."""

    out: Path
    config: TuneConfig
    regions_per_frame: float
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(
        default_factory=lambda: torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    )

    def report(self, metrics: dict[str, float]) -> None:
        """Score the newest checkpoint and tell Tune, which may end the trial here."""
        from ray import tune

        checkpoint = newest_checkpoint(self.out / "checkpoints")
        assert checkpoint is not None, "the loop reports after writing a checkpoint"
        scored = evaluate(
            EvaluateConfig(
                checkpoint=checkpoint,
                frames=self.config.evaluate,
                out=self.out / "evaluation",
                engine="local",
                baselines=False,
                seed=self.config.seed,
                tracking=TrackingConfig("none"),
            )
        )
        tune.report(
            {
                "miou": scored["miou"],
                "accuracy": scored["accuracy"],
                "loss_over_lnK": metrics["loss_over_lnK"],
                "regions_per_frame": self.regions_per_frame,
                "step": metrics["step"],
                "checkpoint_path": str(checkpoint),
            }
        )


def run_trial(parameters: dict[str, Any], config: TuneConfig, data: Path) -> None:
    """One trial, in a process of Tune's."""
    from ray import tune

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.concurrent))
    regions = trial_regions(parameters, data)
    shared = config.out / "regrouped" / config_hash(regions)
    with _locked(config.out / f"{shared.name}.lock"):
        manifest = regroup(data, shared, regions)
    trial = config.out / "trials" / tune.get_context().get_trial_id()
    trial.mkdir(parents=True, exist_ok=True)
    settings = replace(
        config.pretrain,
        data=shared,
        seed=config.seed,
        model=replace(config.pretrain.model, prototypes=parameters["prototypes"]),
    )
    every = -(-config.steps // 3)
    train = replace(settings.train, steps=config.steps, checkpoint_every=every, seed=config.seed)
    reporter = TuneReporter(trial, config, manifest["regions_per_frame"])
    result = train_loop(settings.task(), train, trial, reporter)
    if result["alarm"]:
        raise RuntimeError(result["alarm"])


def trial_regions(parameters: dict[str, Any], data: Path) -> RegionConfig:
    """The dataset's region settings with a trial's thresholds."""
    manifest = read_manifest(data)
    base = overlay(RegionConfig(), manifest["config"]["regions"], str(data / "manifest.json"))
    return replace(base, **{k: parameters[k] for k in ("separation", "gain", "bias")})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tune_regions(config: TuneConfig) -> dict[str, Any]:
    """Search, or go on searching; write ``best.yaml`` and the table of trials.

    Returns:
        ``best`` parameters, their ``miou``, ``trials``, ``best_config`` path, ``run_id`` ...

    Raises:
        InputError: the evaluation frames have no labels, or the dataset cannot be used.
    """
    start, config = time.perf_counter(), replace(config, out=config.out.absolute())
    if not open_frames(config.evaluate).protocol:
        raise InputError(
            f"{config.evaluate}: has no labels to score trials by; give labelled frames "
            "with --evaluate."
        )
    key = config_hash({k: v for k, v in to_plain(config).items() if k != "tracking"})
    with (
        open_run(config.tracking, "tune", key, to_plain(config), config.out) as run,
        ray_session(dashboard=True),  # without it, trials stopped early keep their resources
    ):
        data = config.data.absolute() if config.data != Path() else _street(config, run)
        results = _search(config, data, run, key)
        rows = sorted(
            (row for row in (_row(result) for result in results) if row),
            key=lambda row: -row["miou"],
        )
        if not rows:
            raise InputError(f"{config.out}: no trial finished; see the errors above.")
        best, table = rows[0], _table(rows)
        path = config.out / "best.yaml"
        chosen = trial_regions(best, data)
        model = replace(config.pretrain.model, prototypes=best["prototypes"])
        write_yaml(path, {"regions": asdict(chosen), "model": asdict(model)})
        run.artifact(path)
        run.text("trials.txt", table)
        run.metrics({"best_miou": best["miou"], "trials": len(rows)}, step=0)
        print(table)
        print(
            "train the winner:\n"
            f"  python experiments/prepare.py --config {path} --out runs/tuned-dataset\n"
            f"  python experiments/pretrain.py --config {path} --data runs/tuned-dataset "
            "--out runs/tuned"
        )
        return {
            "best": {k: best[k] for k in ("separation", "gain", "bias", "prototypes")},
            "miou": best["miou"],
            "protocol": open_frames(config.evaluate).protocol,
            "trials": len(rows),
            "best_config": str(path),
            "dataset": str(data),
            "config_hash": key,
            "run_id": run.run_id,
            "seconds": round(time.perf_counter() - start, 1),
        }


def _street(config: TuneConfig, run: Run) -> Path:
    out = config.out / "dataset"
    tracking = replace(config.tracking, parent=run.run_id)
    prepare(PrepareConfig(frames=STREET, out=out, tracking=tracking))
    return out


def _search(config: TuneConfig, data: Path, run: Run, key: str) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from cpcdr.tune.record import RecordTrials

    space = {
        "separation": tune.uniform(0.05, 0.5),
        "gain": tune.loguniform(16.0, 144.0),
        "bias": tune.uniform(3.0, 5.0),
        "prototypes": tune.choice([32, 64, 100, 200]),
    }
    cpus = logical_cpus() / config.concurrent
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, config=config, data=data), {"cpu": cpus}
    )
    folder = config.out / "search"
    if tune.Tuner.can_restore(str(folder)):
        return tune.Tuner.restore(
            str(folder), trainable=trainable, resume_unfinished=True, restart_errored=True
        ).fit()
    every = -(-config.steps // 3)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="miou",
            mode="max",
            num_samples=config.trials,
            max_concurrent_trials=config.concurrent,
            search_alg=OptunaSearch(seed=config.seed),
            scheduler=ASHAScheduler(
                time_attr="step", max_t=config.steps, grace_period=every, reduction_factor=2
            ),
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(config.out),
            verbose=0,
            callbacks=[RecordTrials(config.tracking, run.run_id, key, config.trials)],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    ).fit()


def _row(result: Any) -> dict[str, Any] | None:
    if not result.metrics or "miou" not in result.metrics:
        return None
    names = ("miou", "accuracy", "loss_over_lnK", "regions_per_frame", "step")
    return {**result.config, **{name: result.metrics[name] for name in names}}


def _table(rows: list[dict[str, Any]]) -> str:
    head = "  mIoU  step  separation   gain   bias  prototypes  regions a frame  loss / ln K"
    lines = [
        f"{100 * r['miou']:6.1f} {r['step']:5.0f} {r['separation']:11.3f} {r['gain']:6.1f} "
        f"{r['bias']:6.2f} {r['prototypes']:11d} {r['regions_per_frame']:16.1f} "
        f"{r['loss_over_lnK']:12.3f}"
        for r in rows
    ]
    return "\n".join([head, *lines])
