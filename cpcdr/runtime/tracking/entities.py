"""What a run is given, as MLflow's own entities: datasets, pictures, models, descriptions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput
    from mlflow.models.model import ModelInfo

MODEL = "network"
"""Name of a run's model: ``runs:/RUN_ID/network`` is its address."""
PICTURES = "figures.json"
"""A table of a run's figures, for MLflow's pages to compare."""
_WEIGHTS = "cpcdr.model_weights"


def send(client: MlflowClient, uri: str, run_id: str, entry: Mapping[str, Any]) -> None:
    """Log a file, a dataset, a model or a description, as the outbox holds them."""
    about = {name: value for name, value in entry.items() if name != "op"}
    match entry["op"]:
        case "file":
            path, folder = Path(entry["path"]), entry["folder"]
            if not path.exists():  # it may be gone since an earlier session
                return
            client.log_artifact(run_id, str(path), folder or None)
            if entry["stored"] and folder.partition("/")[0] == "figures":
                _log_picture(client, run_id, path, f"{folder}/{path.stem}".partition("/")[2])
        case "dataset":
            client.log_inputs(run_id, datasets=[dataset_input(**about)])
        case "model":
            folder = Path(about.pop("path"))
            logged = client.get_run(run_id).data.tags.get(_WEIGHTS)
            if folder.exists() and logged != about["digest"]:  # else the run has this very model
                log_model(uri, run_id, folder, **about)
        case "note":
            text = entry["text"].replace("{run_id}", run_id)
            client.set_tag(run_id, "mlflow.note.content", text)


def name_of(key: str) -> str:
    """The key with only the characters that MLflow admits."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]


def finite(value: Any) -> float | None:
    """The number that a Python, NumPy or PyTorch scalar holds; None for all else."""
    if isinstance(value, str | bytes) or getattr(value, "ndim", 0) != 0:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def description(result: Mapping[str, Any], figures: Sequence[str]) -> str:
    """The numbers of a result as a table of Markdown, and the figures; ``{run_id}`` to be put in.

    >>> print(description({"miou": 0.28912, "dataset": "runs/data"}, ["mosaic"]))
    | | |
    |---|---|
    | miou | 0.2891 |
    <BLANKLINE>
    ![mosaic](get-artifact?path=figures%2Fmosaic.png&run_uuid={run_id})
    """
    rows = [
        f"| {name} | {f'{value:.4g}' if isinstance(value, float) else value} |"
        for name, value in result.items()
        if isinstance(value, int | float)
    ]
    pictures = [
        f"\n![{name}](get-artifact?path={quote(f'figures/{name}.png', '')}&run_uuid={{run_id}})"
        for name in figures
    ]
    return "\n".join(["| | |", "|---|---|", *rows, *pictures])


def runs_page(uri: str, experiment_id: str, wanted: str) -> str:
    """Address of the charts of an experiment's runs that a filter of MLflow's admits.

    >>> runs_page("sqlite:///mlflow.db", "1", "metrics.miou > 0")
    'http://127.0.0.1:5000/#/experiments/1/runs?searchFilter=metrics.miou%20%3E%200&compareRunsMode=CHART'
    """
    server = uri if uri.startswith("http") else "http://127.0.0.1:5000"  # of mlflow ui
    query = f"searchFilter={quote(wanted)}&compareRunsMode=CHART"
    return f"{server}/#/experiments/{experiment_id}/runs?{query}"


def source_of(place: str) -> tuple[str, dict[str, Any]]:
    """Type and content of a dataset's source, from its absolute path, address or spec.

    >>> source_of("s3://bucket/data")
    ('s3', {'uri': 's3://bucket/data'})
    >>> source_of("/data/drive.mp4")
    ('local', {'uri': '/data/drive.mp4'})
    >>> source_of("synthetic:streets=2")
    ('code', {'tags': {'spec': 'synthetic:streets=2'}})
    """
    scheme = re.match(r"([a-z][a-z0-9+]*)://", place)
    if scheme:
        return scheme[1].replace("file", "local"), {"uri": place}
    return (
        ("local", {"uri": place}) if place.startswith("/") else ("code", {"tags": {"spec": place}})
    )


def dataset_input(
    name: str, place: str, digest: str, context: str, columns: Mapping[str, str], rows: int
) -> DatasetInput:
    """A dataset as MLflow shows it among the inputs of a run.

    Args:
        place: as for `source_of`.
        columns: MLflow's name of their type: ``string``, ``integer``, ``float[]`` for a list,
            ``uint8[-1,-1,3]`` for the tensors ``image`` and ``labels``.
        rows: how many it has.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    kind, source = source_of(place)
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type=kind,
        source=json.dumps(source),
        schema=json.dumps(_schema(columns)),
        profile=json.dumps({"num_rows": rows}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _schema(columns: Mapping[str, str]) -> dict[str, Any]:
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    if any("," in kind for kind in columns.values()):
        tensors = {}
        for name, kind in columns.items():
            element, _, shape = kind.rstrip("]").partition("[")
            sides = tuple(int(side) for side in shape.split(","))
            tensors[name] = Schema([TensorSpec(np.dtype(element), sides, name)])
        targets: Any = tensors.get("labels")  # MLflow's annotation forgets that it may be None
        return TensorDatasetSchema(tensors["image"], targets).to_dict()
    specs: Any = [
        ColSpec(Array(kind[:-2]) if kind.endswith("[]") else kind, name)
        for name, kind in columns.items()
    ]
    return {"mlflow_colspec": Schema(specs).to_dict()}


def _log_picture(client: MlflowClient, run_id: str, path: Path, name: str) -> None:
    """A row of the table by which MLflow shows the pictures of several runs; once a run."""
    import mlflow
    from PIL import Image

    if any(file.path == PICTURES for file in client.list_artifacts(run_id)):
        table = json.loads(Path(client.download_artifacts(run_id, PICTURES)).read_bytes())
        if any(name in row for row in table["data"]):
            return
    with Image.open(path) as image:
        picture = mlflow.Image(np.asarray(image))
    client.log_table(run_id, {"figure": [name], "picture": [picture]}, PICTURES)


def log_model(
    uri: str, run_id: str, folder: Path, loader: str, digest: str, example: Any, **options: Any
) -> ModelInfo:
    """Log a checkpoint as a model of MLflow's, from images uint8 [N, H, W, 3] to classes [N, H, W].

    No pickle and no code go with it. It needs this package where it is used, and yet does not
    list it among the requirements: pip would install whatever is on PyPI under its name. MLflow
    tries it on the example.

    Args:
        loader: the module that loads it.
        digest: of the weights, kept as a tag of the run.
        example: of images: nested lists.
        options: of MLflow's ``Model.log``.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    images = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))
    classes = TensorSpec(np.dtype(np.uint8), (-1, -1, -1))
    # Else it would belong to the active experiment, not to the run's.
    made = client.create_logged_model(run.info.experiment_id, MODEL, run_id, params=run.data.params)
    logged = Model.log(
        None,
        mlflow.pyfunc,
        run_id=run_id,
        model_id=made.model_id,
        loader_module=loader,
        data_path=str(folder),
        signature=ModelSignature(Schema([images]), Schema([classes])),
        input_example=np.asarray(example, np.uint8),
        pip_requirements=[],
        **options,
    )
    client.set_tag(run_id, _WEIGHTS, digest)
    return logged
