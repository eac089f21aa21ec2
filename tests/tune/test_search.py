"""Whole searches: killed and continued, without labels, by populations."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from cpcdr.commands.prepare import prepare
from cpcdr.commands.tune_pretrain import tune_pretrain
from cpcdr.commands.tune_regions import tune_regions
from cpcdr.dataset import read_manifest
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.checkpoint import read_checkpoint
from cpcdr.runtime.cli import parse
from cpcdr.runtime.strict_json import read_json_lines
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import OptimiserConfig, PretrainConfig
from cpcdr.train.history import read_history
from cpcdr.tune.config import TuneConfig, TunePretrainConfig
from cpcdr.tune.ledger import DONE, OPEN, STOPPED, Ledger

pytestmark = [pytest.mark.slow, pytest.mark.survival]

ROOT = Path(__file__).resolve().parents[2]
STREET = "synthetic:streets=4,frames=2,height=64,width=128,seed=7"
TINY = [
    *("--pretrain.frames-per-item", "2", "--pretrain.model.backbone", "resnet10"),
    *("--pretrain.model.width", "8", "--pretrain.model.head-channels", "32"),
    *("--pretrain.model.prototypes", "64", "--pretrain.loss.pixel-points", "50"),
    *("--pretrain.loss.region-points", "50"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    none, regions = TrackingConfig("none"), RegionConfig(superpixels=4000)
    prepare(PrepareConfig(STREET, out=out, engine="local", regions=regions, tracking=none))
    return out


def children(found: dict[str, Any]) -> list[Any]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_run(found["run_id"]).info.experiment_id
    return client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found['run_id']}'")


def check_recorded(found: dict[str, Any], ledger: Ledger) -> None:
    """One ended MLflow run a trial, with every report once."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    every = {run.info.run_name: run for run in children(found)}
    assert len(children(found)) == len(every), "each run once"
    runs = {name: run for name, run in every.items() if "seed" not in name}
    assert len(ledger.trials) == len(runs)
    for trial in ledger.trials:
        run = runs[f"trial-{trial.number}"]
        assert run.info.status == "FINISHED"
        points = client.get_metric_history(run.info.run_id, "label_free")
        assert [point.step for point in points] == [row["step"] for row in trial.reports]
        assert [point.value for point in points] == [row["label_free"] for row in trial.reports]


def wait_for(path: Path, word: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not (path.exists() and word in path.read_text()):
        assert process.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline, f"no {word} in {path}"
        time.sleep(0.02)


def test_a_killed_search_goes_on_and_nothing_is_lost_or_doubled(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: object
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(data), "--evaluate", STREET, "--trials", "3", "--steps", "6"]
    arguments += ["--test", STREET.replace("seed=7", "seed=8"), "--region-sets", "12"]
    arguments += ["--region-frames", "2", "--out", "search", *TINY]
    script = str(ROOT / "experiments" / "tune_regions.py")
    first = subprocess.Popen([sys.executable, script, *arguments], env=os.environ.copy())
    path = tmp_path / "search" / "trials.jsonl"
    wait_for(path, '"report"', first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = Ledger(path)
    assert len(before.trials) >= 1 and any(trial.status == OPEN for trial in before.trials)

    found = tune_regions(parse(TuneConfig, "", arguments))
    ledger = Ledger(path)
    assert [trial.number for trial in ledger.trials] == [0, 1, 2]
    for trial in before.trials:
        after = ledger.trials[trial.number]
        assert after.parameters == trial.parameters
        assert after.reports[: len(trial.reports)] == trial.reports
    assert ledger.trials[0].status == DONE, "the default is never stopped early"
    for trial in ledger.trials:
        assert trial.status in (DONE, STOPPED) and trial.recorded
        assert [row["step"] for row in trial.reports] == [2, 4, 6][: len(trial.reports)]
        # A trial's checkpoints and history are those of one training, not of two.
        steps = [row["step"] for row in read_history(folder(path, trial.number) / "history.jsonl")]
        assert steps == sorted(set(steps))
    check_recorded(found, ledger)
    check_ends(found, tmp_path / "search", data)

    check_read_by_ray(tmp_path / "search" / "tune", ledger)

    again = tune_regions(parse(TuneConfig, "", arguments))
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    assert len(Ledger(path).trials) == 3
    assert len(children(found)) == 3 + len(list((tmp_path / "search/repeats").glob("*-seed-*")))


def check_read_by_ray(experiments: Path, ledger: Ledger) -> None:
    """The trials that the second start ran, by Tune's own reader."""
    from ray.tune import ExperimentAnalysis, ResultGrid

    assert [path.name for path in sorted(experiments.iterdir())] == ["000", "001"]
    grid = ResultGrid(ExperimentAnalysis(str(experiments / "001")))
    assert len(grid) and not grid.num_errors
    for result in grid:
        trial = ledger.trials[result.config["number"]]
        assert result.metrics["miou"] == trial.reports[-1]["miou"]
        checkpoint = Path(result.metrics["checkpoint_path"])
        assert read_checkpoint(checkpoint, "pretrain")[0]["step"] == trial.step


def folder(ledger: Path, number: int) -> Path:
    return ledger.parent / "trials" / f"{number:04d}"


def check_ends(found: dict[str, Any], out: Path, data: Path) -> None:
    """best.yaml trains the winner; tables and figures are there; the test frames were scored."""
    best = yaml.safe_load((out / "best.yaml").read_text())
    assert best["regions"]["separation"] == found["best"]["separation"]
    assert best["loss"]["epsilon"] == found["best"]["epsilon"]
    again = parse(PrepareConfig, "", ["--config", str(out / "best.yaml")])
    assert again.regions.superpixels == found["best"]["superpixels"]
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2]
    best_row = rows[found["best_trial"]]
    assert float(best_row["class_information"]) == found["class_information"]
    check_repeats(found, out)
    assert set(found["correlations"]["label_free"]) >= {"first", "full", "last"}
    assert read_manifest(data)["hash"] == read_manifest(Path(found["dataset"]))["hash"]
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    figures = {f.path for f in client.list_artifacts(found["run_id"], "figures")}
    assert figures >= {"figures/parallel_coordinates.png", "figures/label_free.png"}


def check_repeats(found: dict[str, Any], out: Path) -> None:
    """Winner and default have a score by each seed, the search's own from its own network."""
    assert set(found["default_miou_seeds"]) == {0, 1, 2} == set(found["winner_miou_seeds"])
    values = found["winner_miou_seeds"].values()
    assert found["winner_miou"] == pytest.approx(sum(values) / 3) and 0 < found["winner_miou"] < 1
    trained = sorted(
        path.name for path in out.glob("repeats/*-seed-*") if (path / "history.jsonl").exists()
    )
    both = sorted({0, found["best_trial"]})
    assert trained == [f"trial-{number}-seed-{seed}" for number in both for seed in (1, 2)]
    if found["best_trial"]:
        assert found["lead_low"] <= found["lead_mean"] <= found["lead_high"]
    names = {run.info.run_name for run in children(found)}
    assert names >= {f"trial-{number}-seed-{seed}" for number in both for seed in (0, 1, 2)}


def test_a_population_shares_checkpoints_and_needs_no_labels(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: object
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = tmp_path / "frames" / "drive"
    frames.mkdir(parents=True)
    from cpcdr.frames import open_frames
    from cpcdr.visualize.pictures import save_png

    source = open_frames(STREET)
    for ref in source.refs()[:3]:
        save_png(frames / f"{ref.frame_index}-{ref.sequence}.png", source.read(ref).image)
    arguments = ["--data", str(data), "--evaluate", f"images:{frames.parent}", "--trials", "3"]
    arguments += ["--steps", "4", "--scheduler", "pbt", "--out", "search", *TINY]
    found = tune_pretrain(parse(TunePretrainConfig, "", arguments))
    assert found["objective"] == "label_free" and found["protocol"] is None
    assert found["correlations"] == {} and found["test"] is None
    ledger = Ledger(tmp_path / "search" / "trials.jsonl")
    assert [trial.status for trial in ledger.trials] == [DONE] * 3
    for trial in ledger.trials:
        assert [row["step"] for row in trial.reports] == [1, 2, 3, 4]
    check_recorded(found, ledger)
    lines = [line for line in read_json_lines(ledger.path) if "parameters" in line]
    rates = {n: {r["parameters"]["lr"] for r in lines if r["trial"] == n} for n in range(3)}
    assert len(rates[0]) == 1, "the default stays what it is"
    assert len(rates[1] | rates[2]) > 2, "a member resumed from another's checkpoint"


def test_a_trial_goes_on_from_the_checkpoint_it_is_given(data: Path, tmp_path: Path) -> None:
    """Without Ray: the taken checkpoint's weights are where the next step starts."""
    from dataclasses import replace

    from cpcdr.tune.config import SearchConfig
    from cpcdr.tune.search import setup_of
    from cpcdr.tune.trial import take_over, train_trial

    usual = PretrainConfig().settings()
    model = replace(usual.model, backbone="resnet10", width=8, head_channels=32, prototypes=64)
    loss = replace(usual.loss, pixel_points=50, region_points=50)
    small = replace(
        usual,
        frames_per_item=2,
        model=model,
        loss=loss,
        train=OptimiserConfig(lr=0.01),
    )
    config = SearchConfig(
        data=data, evaluate=STREET, steps=6, out=tmp_path, pretrain=small, frames=2
    )
    setup = setup_of(config, data, RegionConfig(superpixels=4000))
    told: list[dict[str, Any]] = []
    for number, lr in enumerate((0.01, 0.1)):
        train_trial({"number": number, "lr": lr}, 0, setup, told.append)
    assert [row["step"] for row in told] == [2, 4, 6] * 2
    first, second = (setup.folder(number) for number in range(2))
    # What was written and not told is told, and nothing is trained again.
    told.clear()
    train_trial({"number": 0, "lr": 0.01}, 2, setup, told.append)
    assert [row["step"] for row in told] == [4, 6]
    # Killed between checkpoint and score: the score is made up for.
    lines = (first / "reports.jsonl").read_text().splitlines(keepends=True)
    (first / "reports.jsonl").write_text("".join(lines[:2]))
    told.clear()
    train_trial({"number": 0, "lr": 0.01}, 4, setup, told.append)
    assert (first / "reports.jsonl").read_text() == "".join(lines)
    assert [row["step"] for row in told] == [6]
    given = second / "checkpoints" / "step-00000004"
    _, weights = read_checkpoint(given, "pretrain")
    assert take_over(given, first) == 4
    newest = sorted((first / "checkpoints").glob("step-*"))[-1]
    assert newest.name == given.name
    taken = read_checkpoint(newest, "pretrain")[1]
    assert all(value.equal(weights[name]) for name, value in taken.items())
    told.clear()
    train_trial({"number": 0, "lr": 0.1}, 4, setup, told.append)
    assert [row["step"] for row in told] == [6]
    ends = [f / "checkpoints" / "step-00000006" for f in (first, second)]
    one, other = (read_checkpoint(end, "pretrain")[1] for end in ends)
    assert all(value.equal(other[name]) for name, value in one.items()), "the same as its giver"
