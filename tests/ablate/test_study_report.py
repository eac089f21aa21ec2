"""Tables: what they say, and that all forms say the same."""

from __future__ import annotations

import csv
import io

import pytest

from cpcdr.ablate.report import (
    COLOUR,
    METRICS,
    by_clustering,
    cells,
    csv_table,
    document,
    markdown_table,
    summarise,
    verdicts,
    with_colour,
)
from cpcdr.evaluate.clusters import METHODS
from cpcdr.evaluate.statistics import paired
from cpcdr.runtime.tables import csv_text

SCORES = {"full": [0.31, 0.33, 0.35], "no-copy-paste": [0.30, 0.31, 0.32], "slic": [0.2, 0.25]}


def results() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {
            "variant": name,
            "seed": seed,
            "checkpoint": "x",
            "miou": score,
            "linear_ridge": score + 0.2,
            **{f"miou_{method}": score for method in METHODS},
        }
        for name, scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]
    rows[0] |= {"context": 0.5, "colour_miou": 0.21, "colour_accuracy": 0.4}
    return rows


def test_differences_are_paired_by_seed() -> None:
    summary = summarise(with_colour(results()))
    by_seed = {name: dict(enumerate(scores)) for name, scores in SCORES.items()}
    found = summary["full"]["miou"]["minus"]["no-copy-paste"]
    assert found == paired(by_seed["full"], by_seed["no-copy-paste"])
    assert found["mean"] == pytest.approx(0.02)
    assert summary["slic"]["miou"]["minus"]["full"]["n"] == 2
    assert "full" not in summary["full"]["miou"]["minus"]
    assert summary[COLOUR]["miou"]["mean"] == 0.21
    assert "checkpoint" not in summary["full"]


def test_tables_say_the_same_in_every_form() -> None:
    rows = with_colour(results())
    summary = summarise(rows)
    table = cells(summary, METRICS[0])
    assert table[0] == ["variant", "n", METRICS[0].title, "minus no-copy-paste", "minus full"]
    by_name = {row[0]: row for row in table[1:]}
    assert by_name["full"][1] == "3" and by_name["full"][2].startswith("33.0 [28.0, 38.0]")
    assert by_name["full"][3].startswith("+2.0 [") and by_name["full"][4] == "–"
    assert by_name[COLOUR][3].endswith("n=1") is False, "both have one value"
    assert by_name["slic"][3].startswith("-8.0 [")
    text, markdown = (document(summary, ["why"], form) for form in (False, True))
    for row in table[1:]:
        assert all(cell in text and cell in markdown for cell in row)
    assert markdown_table(table).count("\n") == len(table)
    (line,) = (
        line
        for line in csv.DictReader(io.StringIO(csv_table(summary)))
        if (line["variant"], line["metric"]) == ("full", "miou")
    )
    assert float(line["mean"]) == pytest.approx(0.33)
    assert float(line["minus no-copy-paste: mean"]) == pytest.approx(0.02)
    trials = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert len(trials) == len(rows) and trials[0]["context"] == "0.5" and not trials[1]["context"]


def test_the_span_over_ways_of_clustering_is_said() -> None:
    rows = [{**row, "miou_ward": 0.1, "miou_spherical": 0.5} for row in results()]
    by_name = {row[0]: row[1:] for row in by_clustering(summarise(rows))}
    assert by_name["variant"] == [*METHODS, "lowest – highest"]
    assert by_name["full"][-1] == "10.0 – 50.0"
    assert by_name["full"][METHODS.index("average")] == "33.0"


def test_a_metric_nobody_has_makes_no_table() -> None:
    rows = [{k: v for k, v in row.items() if k != "context"} for row in results()]
    assert cells(summarise(rows), METRICS[2]) == []


def test_every_variant_is_compared_with_itself_without_pastes() -> None:
    scores = {"clean-norm": [0.5, 0.6, 0.7], "clean-norm+no-copy-paste": [0.4, 0.52, 0.59]}
    rows = [
        {"variant": name, "seed": seed, "few_labels_5": score, "miou": 0.1 * seed}
        for name, each in scores.items()
        for seed, score in enumerate(each)
    ]
    summary = summarise(rows)
    found = summary["clean-norm"]["few_labels_5"]["minus"]["clean-norm+no-copy-paste"]
    assert found["mean"] == pytest.approx(0.0967, abs=1e-3) and found["n"] == 3
    few, same = sorted(verdicts(summary), key=lambda line: "unsupervised" in line)
    assert "named by 5 labelled frames" in few and "excludes zero after correction for 2" in few
    assert "does not exclude zero" in same, "equal scores show nothing"
