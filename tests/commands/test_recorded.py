"""What MLflow has of a chain of commands: inputs, models, descriptions, pictures."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from cpcdr import api
from cpcdr.commands.inputs import short_name
from cpcdr.runtime.storage import location
from cpcdr.runtime.tracking.entities import dataset_input, runs_page
from cpcdr.runtime.tracking.store import tracking_uri

STREET = "synthetic:streets=2,frames=4,height=64,width=128"
OTHER = STREET + ",seed=9"


def inputs_of(run: Run) -> dict[str, tuple[str, str, dict[str, object], str]]:
    """Context -> name, source type, schema and profile of the inputs of a run."""
    return {
        each.tags[0].value: (
            each.dataset.name,
            each.dataset.source_type,
            json.loads(each.dataset.schema),
            each.dataset.profile,
        )
        for each in run.inputs.dataset_inputs
    }


@pytest.mark.slow
def test_a_chain_as_mlflow_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = api.prepare(STREET, engine="local")
    small = {"model.width": 16, "model.fpn_channels": 32, "model.head_channels": 32}
    trained = api.pretrain(steps=2, backbone="resnet10", engine="local", flags=small)
    start = trained.checkpoint
    named = api.finetune(STREET, evaluate=OTHER, network=start, steps=2, engine="local")
    scored = api.evaluate(start, STREET, engine="local")
    client = MlflowClient(tracking_uri())
    ids = {"prepare": prepared, "pretrain": trained, "finetune": named, "evaluate": scored}
    runs = {kind: client.get_run(result.run_id) for kind, result in ids.items()}
    assert {kind: run.info.run_name for kind, run in runs.items()} == {
        "prepare": "prepare synthetic · depth ground-truth",
        "pretrain": "pretrain resnet10 · synthetic · 2 steps",
        "finetune": "finetune resnet10 · synthetic · 2 steps",
        "evaluate": "evaluate resnet10 · synthetic",
    }
    # Inputs: where they are, what is in them, and how much.
    used = {kind: inputs_of(run) for kind, run in runs.items()}
    assert {kind: set(each) for kind, each in used.items()} == {
        "prepare": {"source", "prepared"},
        "pretrain": {"training"},
        "finetune": {"training", "evaluation"},
        "evaluate": {"evaluation"},
    }
    name, kind, schema, profile = used["pretrain"]["training"]
    assert (name, kind, json.loads(profile)) == ("synthetic", "local", {"num_rows": 8})
    columns = {column["name"]: column["type"] for column in schema["mlflow_colspec"]}
    assert columns["image"] == "binary" and columns["edges"] == "array" and len(columns) == 14
    source = mlflow.data.get_source(runs["pretrain"].inputs.dataset_inputs[0])
    assert source.load() == str(tmp_path / "runs" / "dataset")
    name, kind, schema, _ = used["finetune"]["evaluation"]
    assert (name, kind) == ("synthetic", "code")
    tensors = schema["mlflow_tensorspec"]
    assert "[-1, -1, 3]" in tensors["features"] and "uint8" in tensors["targets"]
    # Models: what anyone loads with MLflow alone, tried on its example.
    for run in (runs["pretrain"], runs["finetune"]):
        address = f"runs:/{run.info.run_id}/network"
        (output,) = run.outputs.model_outputs
        assert client.get_logged_model(output.model_id).status == "READY"
        assert client.get_logged_model(output.model_id).experiment_id == run.info.experiment_id
        info = mlflow.models.get_model_info(address)
        assert info.signature.inputs.input_types() == [np.dtype(np.uint8)]
        model = mlflow.pyfunc.load_model(address)
        assert model.predict(model.input_example).shape == (1, 32, 64)
        assert api.load(f"runs:/{run.info.run_id}").names
    # Descriptions: the numbers, and the pictures where MLflow serves them.
    note = runs["evaluate"].data.tags["mlflow.note.content"]
    assert f"| miou | {scored.miou:.4g} |" in note
    assert f"(get-artifact?path=figures%2Fpredictions.png&run_uuid={scored.run_id})" in note
    pictures = client.load_table("1", "figures.json", [trained.run_id])
    assert list(pictures["figure"]) == ["mosaic", "features"]
    # Again: the same runs, and nothing twice.
    again = api.pretrain(steps=2, backbone="resnet10", engine="local", flags=small)
    found = client.get_run(again.run_id)
    assert again.run_id == trained.run_id and len(found.outputs.model_outputs) == 1
    assert len(client.load_table("1", "figures.json", [trained.run_id])) == 2
    assert all(run.info.status == "FINISHED" for run in runs.values())
    # A table of runs for a comparison of one's own.
    table = mlflow.search_runs(
        experiment_names=["cpcdr"], filter_string="tags.`cpcdr.kind` = 'evaluate'"
    )
    assert list(table["metrics.miou"]) == [pytest.approx(scored.miou)]


def test_a_dataset_on_s3_is_one() -> None:
    place = location(Path("s3://bucket/data"))
    found = dataset_input("drive", place, "0" * 40, "training", {"image": "binary"}, 3)
    assert found.dataset.source_type == "s3" and len(found.dataset.digest) == 36
    assert mlflow.data.get_source(found).uri == "s3://bucket/data"


def test_the_page_of_runs_filters_them() -> None:
    page = runs_page("https://host:5000", "3", "tags.`mlflow.parentRunId` = 'abc'")
    address, _, query = page.partition("?")
    assert address == "https://host:5000/#/experiments/3/runs"
    assert "searchFilter=tags.`mlflow.parentRunId` = 'abc'&" in unquote(query)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("images:/a/b/street/", "street"),
        ("kitti-raw:KITTI", "kitti-raw KITTI"),
        ("video:a b.mp4, camvid:x/val", "a b + camvid val"),
        ("synthetic:", "synthetic"),
    ],
)
def test_short_names(spec: str, name: str) -> None:
    assert short_name(spec) == name
