"""What a search says at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_tree import camvid_tree
from optuna.importance import FanovaImportanceEvaluator

from cpcdr.commands.prepare import prepare
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.cli import parse
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.strict_json import write_json
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.run import open_run
from cpcdr.train.config import PretrainConfig
from cpcdr.tune.config import SearchConfig, TuneConfig, TunePretrainConfig
from cpcdr.tune.figures import correlation_figure, optuna_figure
from cpcdr.tune.ledger import DONE, STOPPED, Ledger
from cpcdr.tune.propose import study_of
from cpcdr.tune.report import (
    commands,
    compare,
    correlation_table,
    importances,
    rank_correlations,
    ranking,
    trial_table,
    write_best,
)
from cpcdr.tune.search import Search, claim_search, objective_of, setup_of
from cpcdr.tune.space import REGION_SPACE, Range, settings

SPACE = {"gain": Range("loguniform", (16.0, 144.0)), "separation": Range("uniform", (0.05, 0.5))}
DEFAULT = {"gain": 48.0, "separation": 0.2}


def row(step: int, miou: float, free: float) -> dict[str, float]:
    names = ("view_information", "region_information", "prototype_entropy", "prototypes_used")
    same = dict.fromkeys((*names, "loss_over_lnK", "regions_per_frame"), 0.5)
    scores = {"class_information": miou, "miou": miou, "accuracy": miou, "label_free": free}
    return {"step": step, **scores, **same}


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Twelve trials whose score is their gain's; half of them were stopped early."""
    ledger = Ledger(tmp_path / "trials.jsonl")
    random = np.random.default_rng(0)
    for number in range(12):
        drawn = {name: chosen.draw(random) for name, chosen in SPACE.items()}
        parameters = drawn if number else DEFAULT
        ledger.add(parameters)
        miou = math.log(parameters["gain"]) / 10
        ledger.report(number, row(30, miou / 2, miou**2), parameters)
        if number % 2 == 0:
            ledger.report(number, row(90, miou, 1 - miou), parameters)
        ledger.end(number, STOPPED if number % 2 else DONE)
    config = SearchConfig(steps=90, out=tmp_path, tracking=TrackingConfig("none"))
    setup = setup_of(config, tmp_path / "data", RegionConfig())
    return Search(config, setup, SPACE, [DEFAULT], "miou", "key", ledger)


def test_correlations_compare_equals(search: Search) -> None:
    known = {t.number: {"region_pairs": t.parameters["gain"]} for t in search.ledger.trials}
    found = rank_correlations(search.ledger.trials, 30, known, "miou")
    free = found["label_free"]
    assert free["first"] == pytest.approx(1) and free["n_first"] == 12
    assert free["full"] == pytest.approx(-1) and free["n_full"] == 6
    assert found["region_pairs"]["full"] == pytest.approx(1)
    assert math.isnan(found["view_information"]["first"]), "a constant ranks nothing"
    assert "label_free" in correlation_table(found, "miou")
    for trial in search.ledger.trials:
        for report in trial.reports:
            del report["miou"]
    assert rank_correlations(search.ledger.trials, 30, {}, "miou") == {}


def test_winner_and_default_are_compared_by_what_the_test_frames_allow(
    search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    none = TrackingConfig("none")
    config = replace(search.config, test="images:without-labels", tracking=none)
    search = replace(search, config=config, setup=replace(search.setup, config=config))
    best, default = ranking(search.ledger.trials, "miou")[0], search.ledger.trials[0]
    for number, score in ((best.number, 0.5), (default.number, 0.4)):
        for seed in range(3):
            folder = config.out / "repeats" / f"trial-{number}-seed-{seed}"
            folder.mkdir(parents=True)
            scores = {"frames": config.test, "label_free": score + 0.01 * seed}
            write_json(folder / "result.json", scores)
    found = compare(search, best, open_run(none, "tune", "key", {}))
    assert found["winner_label_free"] == pytest.approx(0.51) and "winner_miou" not in found
    assert "3 seeds: label_free in % 51.0" in capsys.readouterr().out


def test_the_best_was_trained_to_the_end(search: Search) -> None:
    ranked = ranking(search.ledger.trials, "miou")
    done = [trial.status == DONE for trial in ranked]
    assert done == sorted(done, reverse=True)
    assert ranked[0].score("miou") == max(t.score("miou") for t in search.ledger.trials)
    table = trial_table(ranked, search).splitlines()
    assert len(table) == 14 and len({len(line) for line in table[1:]}) == 1
    assert sum("(default)" in line for line in table) == 1


def test_what_matters_is_found(search: Search) -> None:
    study = study_of(search.ledger.trials, SPACE, "miou", step=30)
    found = importances(study, FanovaImportanceEvaluator(seed=0))
    assert found["gain"] > 0.7 and sum(found.values()) == pytest.approx(1)
    assert importances(study_of([], SPACE, "miou"), None) == {}


def test_figures_are_pictures(search: Search) -> None:
    trials = search.ledger.trials
    study = study_of(trials, SPACE, "miou", step=30)
    pictures = [
        optuna_figure("plot_param_importances", study),
        optuna_figure("plot_parallel_coordinate", study, target_name="miou"),
        correlation_figure(trials, 30, "miou"),
    ]
    for picture in pictures:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and 20 < picture.std() < 120


def test_the_printed_commands_are_the_winner(search: Search, tmp_path: Path) -> None:
    none = TrackingConfig("none")
    frames = "synthetic:streets=1,frames=2,height=64,width=128"
    made = PrepareConfig(
        frames, out=search.setup.data, size=(48, 96), engine="local", tracking=none
    )
    made = replace(made, options=replace(made.options, stride=2))
    prepare(made)
    parameters = {"gain": 77.0, "prototypes": 100, "lr": 0.002, "pastes_round_2": 3}
    regions, chosen = settings(parameters, RegionConfig(superpixels=9000), search.config.pretrain)
    path = tmp_path / "best file.yaml"
    write_best(path, regions, chosen)
    (name, *first), (other, *second) = commands(search, path, chosen)
    assert (name, other) == ("prepare", "pretrain")
    again = parse(PrepareConfig, "", first)
    assert again.regions == regions
    assert (again.frames, again.size, again.options) == (frames, (48, 96), made.options)
    trained = parse(PretrainConfig, "", second)
    assert trained.data == again.out
    for name in ("model", "loss", "copy_paste", "frames_per_item", "items", "train"):
        assert getattr(trained.settings(), name) == getattr(chosen, name), name
    assert trained.seed == search.config.seed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trials": 0}, "--trials"),
        ({"steps": 2}, "--steps"),
        ({"clusters": 1}, "--clusters"),
        ({"region_keep": 0.0}, "--region-keep"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(TuneConfig(), **change)  # type: ignore[arg-type]


def test_a_search_knows_its_objective(tmp_path: Path) -> None:
    config = SearchConfig()
    assert objective_of(config, REGION_SPACE) == "class_information"
    assert objective_of(replace(config, objective="miou"), REGION_SPACE) == "miou"
    assert objective_of(replace(config, objective="label_free"), REGION_SPACE) == "label_free"
    with pytest.raises(InputError, match="prototypes cannot form 80 clusters"):
        objective_of(replace(config, clusters=80), REGION_SPACE)
    with pytest.raises(InputError, match="--scheduler pbt needs --trials 3"):
        TunePretrainConfig(scheduler="pbt", trials=2)


def test_a_folder_belongs_to_one_search(tmp_path: Path) -> None:
    config = SearchConfig(out=tmp_path)
    key = claim_search(config, SPACE, "data")
    more = replace(config, trials=30, concurrent=4, tracking=TrackingConfig("none"))
    assert claim_search(more, SPACE, "data") == key, "more trials resume the same search"
    for changed in (replace(config, seed=1), replace(config, steps=30)):
        with pytest.raises(InputError, match="holds a search with other settings"):
            claim_search(changed, SPACE, "data")
    with pytest.raises(InputError, match="holds a search with other settings"):
        claim_search(config, SPACE, "other data")


def test_changed_labels_are_another_search(tmp_path: Path) -> None:
    camvid_tree(tmp_path / "tree")
    spec = f"camvid:{tmp_path / 'tree'}"
    config = SearchConfig(out=tmp_path / "out", evaluate=spec)
    assert claim_search(config, SPACE, "data") == claim_search(config, SPACE, "data")
    labels = tmp_path / "tree" / "labels"
    (labels / "A_002.png").write_bytes((labels / "A_003.png").read_bytes())
    with pytest.raises(InputError, match="holds a search with other settings: scored"):
        claim_search(config, SPACE, "data")
