"""What the calls of `cpcdr.api` return: paths and scores that print as a small table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, get_type_hints

from cpcdr.runtime.tables import text_table


@dataclass(frozen=True, repr=False, kw_only=True)
class Result:
    """What a call made.

    Attributes:
        record: everything that the command of the same name prints behind ``RESULT``.
    """

    record: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The result of a command as an object: its fields by name, lists and paths converted.

        >>> SegmentResult.of({"out": "a.mp4", "frames": 60, "rejected": 0, "classes": ["road"]})
        SegmentResult
          out       a.mp4
          frames    60
          rejected  0
          classes   road
        """
        kinds = get_type_hints(cls)
        own = [field.name for field in fields(cls) if field.name != "record"]
        return cls(**{name: _as(kinds[name], values.get(name)) for name in own}, record=values)

    def __repr__(self) -> str:
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = [[f"  {name}", _shown(value)] for name, value in own.items() if name != "record"]
        return f"{type(self).__name__}\n{text_table(rows)}"


@dataclass(frozen=True, repr=False, kw_only=True)
class DepthResult(Result):
    """A trained depth network.

    Attributes:
        checkpoint: its folder; ``network:CHECKPOINT`` is a source of depth.
        steps: of training.
        photometric, identity: the loss of the reprojection, and of the identity reprojection.
        kept: ``trained``, or ``start`` where the network it started from is no worse on held-out
            frames; None where none were held out.
        run_id: in MLflow; empty without tracking.
    """

    checkpoint: Path
    steps: int
    photometric: float
    identity: float
    kept: str | None
    run_id: str


@dataclass(frozen=True, repr=False, kw_only=True)
class PrepareResult(Result):
    """A prepared dataset.

    Attributes:
        dataset: its folder, or the address where it was published.
        frames, rejected: how many are in it, and how many could not be used.
        size: (H, W) of the frames in pixels.
        regions_per_frame: their mean number.
        run_id: in MLflow; empty without tracking.
    """

    dataset: str
    frames: int
    rejected: int
    size: tuple[int, int]
    regions_per_frame: float
    run_id: str


@dataclass(frozen=True, repr=False, kw_only=True)
class PretrainResult(Result):
    """A pre-trained network.

    Attributes:
        checkpoint: its folder.
        steps: of training.
        loss_over_lnK: last loss relative to chance level, ln K.
        prototypes_used: of the K prototypes, by the last batches.
        run_id: in MLflow; empty without tracking.
    """

    checkpoint: Path
    steps: int
    loss_over_lnK: float
    prototypes_used: float
    run_id: str


@dataclass(frozen=True, repr=False, kw_only=True)
class FinetuneResult(Result):
    """A fine-tuned network.

    Attributes:
        checkpoint: its folder.
        protocol: of the labels.
        labelled_frames: that it was trained on.
        miou, accuracy: in 0..1; None without frames to score on.
        per_class_iou: in 0..1 by class; None for classes that are absent, and without scores.
        run_id: in MLflow; empty without tracking.
    """

    checkpoint: Path
    protocol: str
    labelled_frames: int
    miou: float | None
    accuracy: float | None
    per_class_iou: Mapping[str, float | None] | None
    run_id: str


@dataclass(frozen=True, repr=False, kw_only=True)
class EvaluateResult(Result):
    """Scores of a pre-trained network by the unsupervised protocol.

    Attributes:
        protocol: of the labels; None without labels.
        frames: that were scored.
        miou, accuracy: in 0..1, of the clusters matched to classes; None without labels.
        untrained_miou, colour_miou: of the untrained network, and of k-means on colour and
            position.
        clusters_used: how many of the clusters occur.
        run_id: in MLflow; empty without tracking.
    """

    protocol: str | None
    frames: int
    miou: float | None
    accuracy: float | None
    untrained_miou: float | None
    colour_miou: float | None
    clusters_used: int
    run_id: str


@dataclass(frozen=True, repr=False, kw_only=True)
class SegmentResult(Result):
    """A segmented video, or a folder of videos or label maps.

    Attributes:
        out: the file or folder.
        frames, rejected: how many were segmented, and how many could not be read.
        classes: names of the classes, or ``cluster 0`` ...
    """

    out: Path
    frames: int
    rejected: int
    classes: tuple[str, ...]


@dataclass(frozen=True, repr=False, kw_only=True)
class RunResult(Result):
    """Everything that was made of a video.

    Attributes:
        video: under its clusters.
        report: a page of HTML.
        checkpoint: folder of the pre-trained network.
        dataset: folder of the prepared frames.
        frames, segmented_frames: that were prepared, and segmented.
        steps, loss_over_lnK: of the pre-training.
        miou: in 0..1; None without labels.
    """

    video: Path
    report: Path
    checkpoint: Path
    dataset: str
    frames: int
    steps: int
    loss_over_lnK: float
    segmented_frames: int
    miou: float | None


def _as(kind: Any, value: Any) -> Any:
    """A value of plain data as the field's kind."""
    if kind is Path:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return str(value)
