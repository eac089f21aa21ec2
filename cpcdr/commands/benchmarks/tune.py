"""A search: threshold sets a minute on cached graphs, and what a sweep costs beside its trials."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cpcdr.commands.benchmarks.preparation import street_dataset
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run
from cpcdr.tune.config import HELD_OUT, STREET, SearchConfig
from cpcdr.tune.ledger import Ledger
from cpcdr.tune.region_score import frame_graph, partition
from cpcdr.tune.region_stage import REFERENCES, draw_sets, sample_frames, score_sets
from cpcdr.tune.search import Search, setup_of
from cpcdr.tune.space import REGION_SPACE, Range, present
from cpcdr.tune.trial import train_trial

SETS, FRAMES = 96, 8
TRIALS, STEPS = 5, 60
_THRESHOLDS = ("separation", "gain", "bias")


def time_tune(config: BenchmarkConfig) -> dict[str, Any]:
    """A sweep of a few trials, one at a time; the floor is the same trials in a plain loop.

    Both train, score and write the same; threads are equal. Beside it: threshold sets a minute in
    tasks of Ray, and in a plain loop on one core.
    """
    with TemporaryDirectory() as folder, ray_session(head_server=True):
        data = street_dataset(Path(folder), STREET)
        return _sweep(config, Path(folder), data) | _sets(data)


def _sets(data: Path) -> dict[str, float]:
    """Threshold sets a minute: grouped and scored in Ray's tasks; grouped alone on one core."""
    base = RegionConfig()
    drawn = draw_sets({name: REGION_SPACE[name] for name in _THRESHOLDS}, SETS, seed=0)
    samples = sample_frames(data, FRAMES)
    few, references = drawn[: SETS // 4], drawn[:REFERENCES]
    score_sets(samples, base, few, references)  # processes start, kernels load
    start = time.perf_counter()
    score_sets(samples, base, drawn, references)
    tasks = time.perf_counter() - start
    graphs = [frame_graph(*one.frame, base) for one in samples]
    partition(graphs[0], base)
    start = time.perf_counter()
    for parameters in few:
        for graph in graphs:
            partition(graph, replace(base, **parameters))
    plain = time.perf_counter() - start
    return {
        "sets_per_minute": round(60 * SETS / tasks, 1),
        "sets_per_minute_grouping_alone_one_core": round(60 * len(few) / plain, 1),
    }


def _sweep(config: BenchmarkConfig, root: Path, data: Path) -> dict[str, Any]:
    base, space = RegionConfig(), {"lr": Range("loguniform", (1e-3, 5e-3))}
    none = TrackingConfig("none")
    searched = SearchConfig(
        data=data,
        evaluate=HELD_OUT,
        trials=TRIALS,
        concurrent=1,
        steps=STEPS,
        out=root / "sweep",
        tracking=none,
    )
    setup = replace(setup_of(searched, data, base), reports=1)
    starts = [present(space, base, searched.pretrain)]
    searched.out.mkdir()
    ledger = Ledger(searched.out / "trials.jsonl")
    search = Search(searched, setup, space, starts, "miou", "benchmark", ledger, config.threads)
    begin = time.perf_counter()
    with open_run(none, "tune", "benchmark", {}) as run:
        search.run(run)
    seconds = time.perf_counter() - begin
    again = replace(setup, config=replace(searched, out=root / "plain"))
    begin = time.perf_counter()
    for trial in ledger.trials:
        train_trial({"number": trial.number, **trial.parameters}, 0, again, lambda row: None)
    floor = time.perf_counter() - begin
    return {
        "seconds": round(seconds, 2),
        "floor_seconds": round(floor, 2),
        "overhead": round(seconds / floor - 1, 3),
        "trials": TRIALS,
        "steps": STEPS,
    }
