"""What a study's folders say of its trials."""

from __future__ import annotations

import json
from pathlib import Path

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.measure import Material
from cpcdr.ablate.record import StudyRecords
from cpcdr.ablate.trials import StudyPlan, StudyTrial
from cpcdr.ablate.variants import variants_of
from cpcdr.train.history import append_history


def plan(out: Path) -> StudyPlan:
    variants = variants_of(("full", "no-copy-paste"))
    trials = tuple(StudyTrial(variant, 0) for variant in variants)
    material = Material(out, None, out / "none")
    config = AblateConfig(steps=40, concurrent=2, out=out)
    return StudyPlan(config, {"depth": out / "data"}, material, trials)


def test_history_and_result_are_the_rows_of_a_trial(tmp_path: Path) -> None:
    study = plan(tmp_path)
    records = StudyRecords(study, "synthetic")
    assert records.total == len(study.trials) == 3 and records.ended() == 0
    folder = study.folder(study.trial("full-seed-0"))
    folder.mkdir(parents=True)
    append_history(folder / "history.jsonl", {"step": 20, "loss": 2.0})
    key = records.key({"trial": "full-seed-0"})
    assert records.child_run(key).rows == [({"loss": 2.0}, 20)]
    assert records.report(key, {}, {"step": 20}) == "full-seed-0: step 20/40"
    append_history(folder / "history.jsonl", {"step": 40, "loss": 1.0})
    result = {"variant": "full", "seed": 0, "miou": 0.3, "accuracy": 0.5, "context": None}
    (folder / "result.json").write_text(json.dumps(result))
    records.end(key, "")
    child = records.child_run(key)
    assert child.name == key and not child.failed and child.tags == {"cpcdr.protocol": "synthetic"}
    assert child.params["factors"]["name"] == "full" and child.params["train"]["steps"] == 40
    assert child.rows == [
        ({"loss": 2.0}, 20),
        ({"loss": 1.0}, 40),
        ({"final/miou": 0.3, "final/accuracy": 0.5}, 0),
        ({"miou": 0.3, "accuracy": 0.5}, 40),
    ]
    assert records.unrecorded() == [key], "the next start looks whether MLflow has all of it"

    records.end("untrained-seed-0", "RuntimeError: no memory")
    assert records.ended() == 2 and records.errors == {
        "untrained-seed-0": "RuntimeError: no memory"
    }
    failed = records.child_run("untrained-seed-0")
    assert failed.failed and failed.tags["cpcdr.alarm"] == "RuntimeError: no memory"
    assert records.unrecorded() == [key], "what failed is tried again"
