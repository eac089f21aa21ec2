"""What commands tell MLflow of their data and networks: inputs with a schema, names, models."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.dataset import PREPARED_SCHEMA
from cpcdr.frames import FrameSource
from cpcdr.runtime.checkpoint import weights_digest
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.names import readable
from cpcdr.runtime.storage import location
from cpcdr.runtime.tracking.run import Run
from cpcdr.segment import pyfunc
from cpcdr.train.config import TrainConfig

_TYPES = {"int32": "integer", "list<item: float>": "float[]", "list<item: int32>": "integer[]"}
"""MLflow's names of the types of columns, where they differ."""
_EXAMPLE = (32, 64)
"""Height and width of a model's example."""


def short_name(spec: str) -> str:
    """A spec as a word or two.

    >>> short_name("video:/data/a.b/drive.mp4"), short_name("camvid:CamVid/train")
    ('drive', 'camvid train')
    >>> short_name("synthetic:streets=2"), short_name("video:a.mp4,video:b.mp4")
    ('synthetic', 'a + b')
    """
    parts = re.split(r",\s*(?=[a-z-]+:)", spec)
    if len(parts) > 1:
        return " + ".join(map(short_name, parts))
    kind, _, place = spec.partition(":")
    if kind == "synthetic":
        return kind
    return Path(place).stem if kind in ("video", "images") else f"{kind} {Path(place).name}"


def length_of(train: TrainConfig) -> str:
    """How long a training is, in words."""
    return f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"


def record_frames(run: Run, source: FrameSource, digest: str, context: str = "training") -> None:
    """Frames as inputs of a run, one for each source that they are from.

    Args:
        digest: of their files; empty for rendered frames, which their spec determines.
    """
    for part in getattr(source, "parts", (source,)):
        root = getattr(part, "root", None)
        columns = {"image": "uint8[-1,-1,3]"}
        columns |= {"labels": "uint8[-1,-1]"} if part.protocol else {}
        run.dataset(
            short_name(part.spec),
            part.spec if root is None else readable(location(root)),
            digest or config_hash(part.spec),
            columns,
            len(part.refs()),
            context,
        )


def record_prepared(run: Run, data: Path, manifest: Mapping[str, Any], context: str) -> None:
    """A prepared dataset as an input of a run, and tags to search runs by."""
    types = {field.name: str(field.type) for field in PREPARED_SCHEMA}
    columns = {name: _TYPES.get(kind, kind) for name, kind in types.items()}
    name, place = short_name(manifest["source"]), location(data)
    run.dataset(name, place, manifest["hash"], columns, manifest["frames"], context)
    run.tags({"cpcdr.dataset": place, "cpcdr.dataset_hash": manifest["hash"]})


def record_network(run: Run, checkpoint: Path, image: NDArray[np.uint8]) -> None:
    """A network as the model of a run, with a small version of an image as its example."""
    example = cv2.resize(image, _EXAMPLE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    run.model(checkpoint, pyfunc.__name__, weights_digest(checkpoint), example)
