"""Search region settings, prototypes and temperatures.

Without arguments on the synthetic street. First hundreds of region settings are scored without
training, then short pre-trainings search within the best. Ends with a table of trials, the winner
beside the default configuration on streets that no trial was scored on, figures in MLflow,
best.yaml, and the commands that train the winner. Run the same command again after any
interruption, or with more --trials.

Examples:
  cpcdr tune-regions
  cpcdr tune-regions --trials 30 --objective label_free
  cpcdr tune-regions --data runs/camvid --evaluate camvid:CamVid/val --trials 40
  cpcdr tune-regions --data runs/data --evaluate video:other.mp4 --space space.yaml
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpcdr.commands.inputs import record_frames, record_prepared, short_name
from cpcdr.commands.prepare import prepare
from cpcdr.dataset import read_manifest
from cpcdr.frames import open_frames
from cpcdr.frames.digest import frames_digest
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.regroup import region_settings
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import read_yaml, write_atomic, write_yaml
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.session import ray_session
from cpcdr.runtime.tables import csv_text
from cpcdr.runtime.tracking.run import Run, run_in_folder
from cpcdr.tune.config import STREET, SearchConfig, TuneConfig
from cpcdr.tune.ledger import Ledger
from cpcdr.tune.region_stage import (
    REFERENCES,
    draw_sets,
    region_ranges,
    region_stage,
    sample_frames,
    score_sets,
)
from cpcdr.tune.report import Columns, report
from cpcdr.tune.search import Search, claim_search, objective_of, setup_of
from cpcdr.tune.space import (
    PLACES,
    REGION_SPACE,
    Parameters,
    Space,
    as_yaml,
    check_space,
    present,
    read_space,
    space_from,
)


def tune_regions(config: TuneConfig) -> dict[str, Any]:
    """Run or resume the search over region settings.

    Returns:
        ``best`` parameters and their score, ``trials``, ``best_config`` path, winner and default
        on the test frames, ``run_id`` ...

    Raises:
        InputError: frames, dataset or space cannot be used, or no trial finished.
    """
    return tune(config, REGION_SPACE, "tune", "asha")


def tune(config: SearchConfig, default: Space, kind: str, scheduler: str) -> dict[str, Any]:
    """Run or resume a search in the space that is given, or in the default one."""
    start, config = time.perf_counter(), replace(config, out=config.out.absolute())
    space = read_space(config.space) if config.space is not None else default
    fixed = [n for n in space if scheduler == "pbt" and PLACES[n].section in ("regions", "model")]
    if fixed:
        raise InputError(
            f"{', '.join(fixed)}: cannot change within a training, as --scheduler pbt would; take "
            "it out of the space, or take --scheduler asha."
        )
    metric = objective_of(config, space)
    data = config.data.absolute() if config.data is not None else config.out / "dataset"
    base = region_settings(data) if config.data is not None else RegionConfig()
    check_space(space, base, config.pretrain)
    identity = read_manifest(data)["hash"] if config.data is not None else STREET
    key = claim_search(config, space, identity)
    params = config.identity() | {"objective": metric}
    about = (short_name(config.evaluate), metric, f"{config.steps} steps")
    with (
        run_in_folder(config.tracking, kind, key, params, config.out, about) as run,
        ray_session(config.dashboard, head_server=True),  # for trials that are stopped early
    ):
        run.tags({"cpcdr.config_hash": key})
        if config.data is None:
            tracking = replace(config.tracking, parent=run.run_id)
            prepare(PrepareConfig(frames=STREET, out=data, regions=base, tracking=tracking))
        record_prepared(run, data, read_manifest(data), "training")
        scored = open_frames(config.evaluate, config.options)
        record_frames(run, scored, frames_digest(scored), "evaluation")
        starts: list[Parameters] = [present(space, base, config.pretrain)]
        if isinstance(config, TuneConfig) and config.region_sets and region_ranges(space):
            space, best = narrowed(config, data, base, space, run)
            starts += [starts[0] | parameters for parameters in best]
        setup = setup_of(config, data, base, scheduler)
        ledger = Ledger(config.out / "trials.jsonl")
        search = Search(config, setup, space, starts, metric, key, ledger)
        search.run(run, scheduler)
        columns = region_columns(config, search) if isinstance(config, TuneConfig) else {}
        result = report(search, run, columns)
        return {
            **result,
            "protocol": open_frames(config.evaluate, config.options).protocol or None,
            "dataset": str(data),
            "config_hash": key,
            "run_id": run.run_id,
            "seconds": round(time.perf_counter() - start, 1),
        }


def region_columns(config: TuneConfig, search: Search) -> Columns:
    """The cheap stage's scores for the regions of every trial, by trial."""
    names = list(region_ranges(search.space))
    if not names:
        return {}
    samples = sample_frames(search.setup.data, config.region_frames)
    tried = [{name: t.parameters[name] for name in names} for t in search.ledger.trials]
    whole = read_space(config.space) if config.space is not None else REGION_SPACE
    references = draw_sets(region_ranges(whole), REFERENCES, config.seed)
    scores = score_sets(samples, search.setup.regions, tried, references)
    return {i: {f"region_{k}": v for k, v in row.items()} for i, row in enumerate(scores)}


def narrowed(
    config: TuneConfig, data: Path, base: RegionConfig, space: Space, run: Run
) -> tuple[Space, list[Parameters]]:
    """The space within the bounds of the cheap stage's best settings, and the very best of them.

    A resumed search reads them from ``region_stage.yaml``.
    """
    path = config.out / "region_stage.yaml"
    if not path.exists():
        begin = time.perf_counter()
        samples = sample_frames(data, config.region_frames)
        stage = region_stage(
            samples, base, space, config.region_sets, config.region_keep, config.seed
        )
        seconds = time.perf_counter() - begin
        write_atomic(config.out / "regions.csv", csv_text(stage.sets))
        summary = {
            "score": stage.score,
            "consensus_against_pairs": stage.agreement,
            "sets_per_minute": round(60 * len(stage.sets) / seconds, 1),
            "space": as_yaml(stage.space),
            "starts": stage.starts,
        }
        write_yaml(path, summary)
    values = read_yaml(path)
    print(
        f"{config.region_sets} region settings by '{values['score']}', "
        f"{values['sets_per_minute']:.0f} a minute; trials search within the best "
        f"{100 * config.region_keep:.0f} %: {config.out / 'regions.csv'}"
    )
    run.artifact(config.out / "regions.csv")
    run.artifact(path)
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
    run.metrics({"region_stage": numbers}, step=0)
    return space_from(values["space"], str(path)), values["starts"]
