"""A search from its first trial to its last, or from wherever it was stopped.

Trials re-group or re-build the regions of one prepared dataset (shared by the hash of the
settings), pre-train for a few steps and are scored on held-out frames. Everything that is decided
is a function of the ledger (`cpcdr.tune.ledger`), every trial is a child of one MLflow run, and the
driver alone writes both.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from cpcdr.frames import get_protocol, open_frames
from cpcdr.runtime.config import config_hash, read_yaml, to_plain, write_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.session import logical_cpus, on_cluster, refuse_what_never_fits
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import Run
from cpcdr.tune.config import SearchConfig
from cpcdr.tune.ledger import FAILED, OPEN, Ledger, Trial
from cpcdr.tune.propose import propose
from cpcdr.tune.space import Parameters, Space
from cpcdr.tune.trial import TrialSetup, run_trial


def objective_of(config: SearchConfig, space: Space) -> str:
    """The metric that the search goes by: ``miou`` or ``label_free``.

    Raises:
        InputError: mIoU is wanted without labels, or a trial has too few prototypes for it.
    """
    protocol = open_frames(config.evaluate, config.options).protocol
    if config.objective == "miou" and not protocol:
        raise InputError(
            f"{config.evaluate}: has no labels for --objective miou; take label_free, or give "
            "labelled frames with --evaluate."
        )
    wanted = max(config.clusters, len(get_protocol(protocol).classes) if protocol else 0)
    chosen = space["prototypes"].values if "prototypes" in space else ()
    fewest = min([*chosen, *([] if chosen else [config.pretrain.model.prototypes])])
    if fewest < wanted:
        raise InputError(
            f"{fewest} prototypes cannot form {wanted} clusters: search more prototypes, or "
            "lower --clusters."
        )
    return config.objective if config.objective != "auto" else "miou" if protocol else "label_free"


def claim(config: SearchConfig, space: Space, dataset_hash: str) -> str:
    """Make the search's folder, or see that it belongs to this search; its key.

    Raises:
        InputError: the folder holds another search.
    """
    told = {**config.identity(), "space": to_plain(space), "dataset": dataset_hash}
    key = config_hash(told)
    path = config.out / "search.yaml"
    if path.exists() and read_yaml(path).get("key") != key:
        raise InputError(
            f"{config.out}: holds another search (see its search.yaml); give another --out, or "
            "delete the folder."
        )
    if not path.exists():
        write_yaml(path, {"key": key, **told})
    return key


@dataclass
class Search:
    """The parts of a running search.

    Attributes:
        config: as given.
        setup: what its trials share.
        space: what is searched, narrowed where a cheap stage could.
        starts: settings to try first, the default configuration before all.
        metric: what is to become large.
        key: of the search in the tracking store.
        ledger: its trials.
    """

    config: SearchConfig
    setup: TrialSetup
    space: Space
    starts: Sequence[Parameters]
    metric: str
    key: str
    ledger: Ledger

    def run(self, run: Run, scheduler: str = "asha") -> None:
        """Run until every trial has ended, in the current Ray session.

        Raises:
            InputError: no machine has room for a trial.
            KeyboardInterrupt: the search was stopped.
        """
        os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours closes the runs
        from cpcdr.tune.record import RecordTrials

        for trial in self.ledger.trials:
            if trial.status == FAILED:
                self.ledger.end(trial.number, OPEN)
        total = max(self.config.trials, len(self.ledger.trials))
        recorder = RecordTrials(
            *(self.ledger, self.config.tracking, run.run_id, self.key),
            *(total, self.metric, self.config.steps),
        )
        recorder.catch_up()
        try:
            if scheduler == "pbt":
                self._halving(recorder, 1)
                self._population(recorder, total)
            else:
                self._halving(recorder, total)
        finally:
            for open_run in recorder.runs.values():
                open_run.close("KILLED")

    def _halving(self, recorder: Any, total: int) -> None:
        from cpcdr.tune.schedule import LedgerSearch, halving

        ledger = self.ledger
        left = total - len([t for t in ledger.ended() if t.number < total])
        if left < 1:
            return
        search = LedgerSearch(ledger, self.space, self.starts, total, self.config.seed, self.metric)
        scheduler = halving(ledger, self.metric, self.setup.every, self.config.steps)
        self._fit(recorder, {}, {"search_alg": search, "num_samples": left}, scheduler)

    def _population(self, recorder: Any, total: int) -> None:
        from ray import tune

        from cpcdr.tune.schedule import population

        ledger = self.ledger
        while len(ledger.trials) < total:
            number = len(ledger.trials)
            proposed = propose(ledger.trials, self.space, self.config.seed, self.metric)
            first = self.starts[number] if number < len(self.starts) else proposed
            ledger.add({**self.starts[0], **first})
        members = {t.number: t for t in ledger.open_trials()}
        if not members:
            return
        random.seed(self.config.seed)  # which better trial a worse one follows, and how far
        parameters: dict[str, Any] = {"number": tune.grid_search(list(members))}
        parameters["reported"] = tune.sample_from(lambda c: members[c["number"]].step)
        for name in self.space:
            parameters[name] = tune.sample_from(partial(_of_member, members, name))
        scheduler = population(self.space, self.metric, self.setup.every, self.config.steps)
        self._fit(recorder, parameters, {"num_samples": 1}, scheduler)

    def _fit(
        self, recorder: Any, parameters: dict[str, Any], more: dict[str, Any], scheduler: Any
    ) -> None:
        from ray import tune

        folder = self.config.out / "tune"  # Tune's own notes: what counts is in the ledger
        shutil.rmtree(folder, ignore_errors=True)
        trainable = tune.with_resources(
            tune.with_parameters(run_trial, setup=self.setup), resources(self.config)
        )
        tuner = tune.Tuner(
            trainable,
            param_space=parameters,
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self.config.concurrent,
                scheduler=scheduler,
                reuse_actors=True,  # a process has imported and compiled all that trials need
                **more,
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                verbose=0,
                callbacks=[recorder],
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        )
        with redirect_stdout(StringIO()):  # Tune prints its settings, however silent it is told
            tuner.fit()
        shutil.rmtree(folder, ignore_errors=True)


def _of_member(members: dict[int, Trial], name: str, chosen: dict[str, Any]) -> Any:
    return members[chosen["number"]].parameters[name]


def resources(config: SearchConfig) -> dict[str, float]:
    """What one trial reserves.

    Raises:
        InputError: no machine here can ever give it.
    """
    import ray

    there = float(ray.cluster_resources().get("GPU", 0))
    gpus = config.gpus_per_trial
    if gpus < 0:
        gpus = min(1.0, there / config.concurrent)
    cpus = 1.0 if on_cluster() else logical_cpus() / config.concurrent
    needs = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    refuse_what_never_fits("trials", 1, needs, "lower --gpus-per-trial, or raise --concurrent")
    return {name.lower(): amount for name, amount in needs.items()}


def threads_of(config: SearchConfig) -> int:
    """CPU threads of a trial, so that concurrent ones do not get in each other's way."""
    return max(1, (os.cpu_count() or 1) // (1 if on_cluster() else config.concurrent))


def setup_of(config: SearchConfig, data: Path, regions: Any, scheduler: str = "asha") -> TrialSetup:
    """What the trials of a search share."""
    names = ("evaluate", "options", "frames", "clusters", "steps", "seed")
    population = scheduler == "pbt"
    return TrialSetup(
        data=data,
        out=config.out,
        regions=regions,
        pretrain=replace(config.pretrain, tracking=TrackingConfig("none")),
        reports=min(config.steps, 6 if population else 3),
        threads=threads_of(config),
        hand_over=population,
        **{name: getattr(config, name) for name in names},
    )
