"""A search from its first trial to its last, resumable at any point.

A trial regroups or rebuilds the regions of one prepared dataset (shared by the hash of the
settings), pre-trains for a few steps and is scored on held-out frames. Every decision is a function
of the ledger (`cpcdr.tune.ledger`), every trial is a child of one MLflow run, and only the driver
writes either.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cpcdr.frames import get_protocol, open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.run_folder import claim
from cpcdr.runtime.tracking.run import Run
from cpcdr.train.pretrain_task import identity_of
from cpcdr.trials.runner import TrialSlots, run_trials
from cpcdr.tune.config import SearchConfig
from cpcdr.tune.ledger import FAILED, OPEN, Ledger, Trial
from cpcdr.tune.propose import propose
from cpcdr.tune.record import LedgerRecords
from cpcdr.tune.space import Parameters, Range, Space
from cpcdr.tune.trial import TrialSetup, run_trial


def objective_of(config: SearchConfig, space: Space) -> str:
    """The metric that the search maximises: `SearchConfig.objective`, or what ``auto`` stands for.

    Raises:
        InputError: labels are missing, or a trial may have fewer prototypes than clusters.
    """
    protocol = open_frames(config.evaluate, config.options).protocol
    if config.objective in ("class_information", "miou") and not protocol:
        raise InputError(
            f"{config.evaluate}: has no labels for --objective {config.objective}; take "
            "label_free, or give labelled frames with --evaluate."
        )
    wanted = max(config.clusters, len(get_protocol(protocol).classes) if protocol else 0)
    default = Range("choice", (config.pretrain.model.prototypes,))
    fewest = min(space.get("prototypes", default).values)
    if fewest < wanted:
        raise InputError(
            f"{fewest} prototypes cannot form {wanted} clusters: search more prototypes, or "
            "lower --clusters."
        )
    if config.objective != "auto":
        return config.objective
    return "class_information" if protocol else "label_free"


def claim_search(config: SearchConfig, space: Space, dataset_hash: str) -> str:
    """Make the search's folder, or check that it belongs to this search; its key.

    Raises:
        InputError: the folder holds another search.
    """
    identity = {**config.identity(), "space": to_plain(space), "dataset": dataset_hash}
    identity |= {"pretrain": identity_of(config.pretrain)}
    if config.evaluate:
        scored = frames_digest(open_frames(config.evaluate, config.options))
        identity |= {"scored": scored} if scored else {}
    return claim(config.out, "search.yaml", identity, "a search")


@dataclass
class Search:
    """The parts of a running search.

    Attributes:
        space: to search, possibly narrowed by the region stage.
        starts: settings to try first; the default configuration comes first.
        metric: to maximise.
        threads: CPU threads of a trial; 0: an equal part of those of the machine.
    """

    config: SearchConfig
    setup: TrialSetup
    space: Space
    starts: Sequence[Parameters]
    metric: str
    key: str
    ledger: Ledger
    threads: int = 0

    @property
    def slots(self) -> TrialSlots:
        """What each trial gets."""
        return TrialSlots(
            self.config.concurrent,
            self.config.gpus_per_trial,
            self.threads,
            remedy="lower --gpus-per-trial, or raise --concurrent",
        )

    def run(self, run: Run, scheduler: str = "asha") -> None:
        """Run until every trial has ended, in the current Ray session.

        Raises:
            InputError: no machine has room for a trial.
            KeyboardInterrupt: the search was stopped.
        """
        from cpcdr.trials.record import RecordTrials  # imports Ray

        for trial in self.ledger.trials:
            if trial.status == FAILED:
                self.ledger.end(trial.number, OPEN)
        total = max(self.config.trials, len(self.ledger.trials))
        records = LedgerRecords(self.ledger, total, self.metric, self.config.steps)
        with RecordTrials(records, self.config.tracking, run.run_id, self.key, "tune") as recorder:
            if scheduler == "pbt":
                self._halving(recorder, 1)
                self._population(recorder, total)
            else:
                self._halving(recorder, total)

    def _halving(self, recorder: Any, total: int) -> None:
        from cpcdr.tune.schedule import LedgerSearch, halving

        ledger = self.ledger
        left = total - len([t for t in ledger.ended() if t.number < total])
        if left < 1:
            return
        search = LedgerSearch(ledger, self.space, self.starts, total, self.config.seed, self.metric)
        scheduler = halving(ledger, self.metric, self.setup.every, self.config.steps)
        self._run(recorder, {}, scheduler, search_alg=search, num_samples=left)

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
        random.seed(self.config.seed)  # PBT draws whom to copy and how to perturb
        parameters: dict[str, Any] = {"number": tune.grid_search(list(members))}
        parameters["reported"] = tune.sample_from(lambda c: members[c["number"]].step)
        for name in self.space:
            parameters[name] = tune.sample_from(partial(_of_member, members, name))
        scheduler = population(self.space, self.metric, self.setup.every, self.config.steps)
        self._run(recorder, parameters, scheduler)

    def _run(
        self, recorder: Any, parameters: dict[str, Any], scheduler: Any, **sampling: Any
    ) -> None:
        run_trials(
            run_trial,
            self.setup,
            parameters,
            name=lambda parameters: f"trial-{parameters['number']}",
            folder=self.config.out / "tune",
            slots=self.slots,
            callback=recorder,
            scheduler=scheduler,
            **sampling,
        )


def _of_member(members: dict[int, Trial], name: str, parameters: dict[str, Any]) -> Any:
    return members[parameters["number"]].parameters[name]


def setup_of(config: SearchConfig, data: Path, regions: Any, scheduler: str = "asha") -> TrialSetup:
    """What the trials of a search share."""
    population = scheduler == "pbt"
    return TrialSetup(config, data, regions, min(config.steps, 6 if population else 3), population)
