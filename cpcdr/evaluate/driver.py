"""The unsupervised protocol as a command: network and baselines over a set of frames."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpcdr.checkpoint import read_checkpoint
from cpcdr.config import config_hash, to_plain, write_atomic
from cpcdr.errors import FrameError, InputError
from cpcdr.evaluate.baselines import fit_colour_position
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.figures import prediction_sheet, score_figures
from cpcdr.evaluate.matching import match, scores
from cpcdr.evaluate.segmenters import ColourSegmenter, Segmenter, prototype_segmenter
from cpcdr.frames import (
    Frame,
    FrameOptions,
    FrameRef,
    FrameSource,
    Protocol,
    fit,
    get_protocol,
    open_frames,
    with_protocol,
)
from cpcdr.progress import Progress
from cpcdr.session import ray_session
from cpcdr.tracking import Run, TrackingConfig, open_run
from cpcdr.visualize import save_png

NETWORK, UNTRAINED, COLOUR = "network", "untrained", "colour"
CLUSTERS_WITHOUT_LABELS = 19
FRAMES_WORTH_AN_ACTOR = 64  # an actor needs about as long to start as for so many small frames


@dataclass(frozen=True)
class EvaluateConfig:
    """A checkpoint against labelled frames (or, without labels, what can be said without).

    Attributes:
        checkpoint: folder written by pretrain.py, ``OUT/checkpoint``.
        frames: ``KIND:PATH`` of frames that the training has not seen.
        protocol: cityscapes-19, cityscapes-27, kitti-19, camvid-11, synthetic; empty: the source's.
        size: height and width of evaluation; 0 0: those of the training.
        clustering: how prototypes become classes: average, ward, kmeans, spherical.
        out: folder for report.json and figures; empty: ``evaluation`` beside the checkpoint.
        engine: ``ray`` or ``local``.
        baselines: score the untrained network and colour k-means as well.
        seed: of the colour baseline and of k-means clusterings.
    """

    checkpoint: Path = Path("runs/pretrain/checkpoint")
    frames: str = "synthetic:seed=1000,streets=6"
    protocol: str = ""
    size: tuple[int, int] = (0, 0)
    clustering: str = "average"
    out: Path = Path()
    engine: str = "ray"
    baselines: bool = True
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


class SegmentFrames:
    """A Ray Data actor: reads frames, segments them in every way, counts against the labels."""

    def __init__(
        self,
        source: FrameSource,
        size: tuple[int, int],
        segmenters: Mapping[str, Segmenter],
        shape: tuple[int, int],
    ) -> None:
        self.source, self.size, self.segmenters, self.shape = source, size, segmenters, shape
        for segmenter in segmenters.values():
            segmenter.load()

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self.count(FrameRef(**row)) for row in table.to_pylist()])

    def count(self, ref: FrameRef) -> dict[str, Any]:
        """Confusions of one frame, flattened, by the name of the segmenter."""
        clusters, classes = self.shape
        row: dict[str, Any] = {"frame_id": ref.frame_id, "reason": "", "usage": [0] * clusters}
        row |= {name: [0] * (clusters * classes) for name in self.segmenters}
        try:
            frame = fit(self.source.read(ref), self.size)
        except FrameError as error:
            return row | {"reason": str(error)}
        for name, segmenter in self.segmenters.items():
            predicted = segmenter.segment(frame.image)
            if name == NETWORK:
                usage = np.bincount(predicted.reshape(-1), minlength=clusters)
                row["usage"] = usage.tolist()
            if frame.labels is not None:
                counts = confusion(predicted, frame.labels, clusters, classes)
                row[name] = counts.reshape(-1).tolist()
        return row


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the network, the untrained network and colour k-means on the same frames.

    Returns:
        ``protocol``, ``miou``, ``accuracy``, ``untrained_miou``, ``colour_miou`` (None without
        labels), ``per_class_iou``, ``clusters_used``, ``cluster_entropy``, ``frames`` ...

    Raises:
        InputError: checkpoint, frames or protocol cannot be used.
    """
    start = time.perf_counter()
    values, _ = read_checkpoint(config.checkpoint, "pretrain")
    source = open_frames(config.frames, config.options)
    if config.protocol:
        source = with_protocol(source, config.protocol)
    protocol = get_protocol(source.protocol) if source.protocol else None
    size = config.size if min(config.size) > 0 else tuple(values["config"]["dataset"]["size"])
    if protocol is not None and protocol.crop:
        size = (protocol.crop, protocol.crop)
    identity = {k: v for k, v in to_plain(config).items() if k not in ("tracking", "out", "engine")}
    digest = config_hash({**identity, "training": values["config"], "step": values["step"]})
    out = config.out if config.out != Path() else config.checkpoint.parent / "evaluation"
    with open_run(config.tracking, "evaluate", digest, to_plain(config), out) as run:
        run.tags({"cpcdr.protocol": protocol.name} if protocol else {})
        classes = len(protocol.classes) if protocol else CLUSTERS_WITHOUT_LABELS
        segmenters = _segmenters(config, source, size, classes)
        totals = count_all(config.engine, source, size, segmenters, classes)
        result = _report(totals, protocol, run)
        result |= {"size": list(size), "clustering": config.clustering, "config_hash": digest}
        frames = spread_frames(source, size, 5)
        network = segmenters[NETWORK]
        network.load()
        clusters = [network.segment(frame.image) for frame in frames]
        matched = match(totals[NETWORK]) if protocol else None
        sheet = prediction_sheet(frames, clusters, protocol, matched)
        run.figure("predictions", sheet)
        save_png(out / "predictions.png", sheet)
        result |= {"seconds": round(time.perf_counter() - start, 1), "run_id": run.run_id}
        write_atomic(out / "report.json", json.dumps(result, indent=2) + "\n")
        run.artifact(out / "report.json")
        return result


def _segmenters(
    config: EvaluateConfig, source: FrameSource, size: tuple[int, int], clusters: int
) -> dict[str, Segmenter]:
    method, seed = config.clustering, config.seed
    network = prototype_segmenter(config.checkpoint, clusters, True, method, seed)
    if not config.baselines:
        return {NETWORK: network}
    some = [frame.image for frame in spread_frames(source, size, 40)]
    colour = fit_colour_position(some, clusters, config.seed)
    return {
        NETWORK: network,
        UNTRAINED: prototype_segmenter(config.checkpoint, clusters, False, method, seed),
        COLOUR: ColourSegmenter(colour),
    }


def spread_frames(source: FrameSource, size: tuple[int, int], count: int) -> list[Frame]:
    """Up to ``count`` readable frames, evenly spread over the source.

    Raises:
        InputError: none can be read.
    """
    refs, frames, first = source.refs(), [], ""
    for index in np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).astype(int)):
        try:
            frames.append(fit(source.read(refs[index]), size))
        except FrameError as error:
            first = first or str(error)
    if not frames:
        raise InputError(f"{source.spec}: no frame can be read; the first says: {first}")
    return frames


def count_all(
    engine: str,
    source: FrameSource,
    size: tuple[int, int],
    segmenters: Mapping[str, Segmenter],
    classes: int,
) -> dict[str, NDArray[np.int64]]:
    """Summed confusions by segmenter, the clusters' ``usage`` and the number of ``frames``.

    Args:
        engine: ``ray`` or ``local``.
        source: frames, with labels where there are confusions to count.
        size: height and width at which frames are segmented.
        segmenters: by name; the one called ``network`` has its clusters' usage counted.
        classes: of the protocol, and clusters of every segmenter.

    Raises:
        InputError: no frame can be evaluated.
    """
    totals: dict[str, NDArray[np.int64]] = {}
    totals |= {name: np.zeros((classes, classes), np.int64) for name in segmenters}
    totals |= {"usage": np.zeros(classes, np.int64), "frames": np.zeros((), np.int64)}
    refs, rejected = source.refs(), []
    arguments = (source, size, segmenters, (classes, classes))
    with Progress(total=len(refs), desc="evaluate", unit="frame") as bar:
        for row in _stream(engine, refs, arguments):
            bar.update()
            if row["reason"]:
                rejected.append(row["reason"])
                continue
            totals["frames"] += 1
            for name in (*segmenters, "usage"):
                totals[name] += np.asarray(row[name], np.int64).reshape(totals[name].shape)
    if not totals["frames"]:
        raise InputError(f"{source.spec}: no frame can be evaluated; the first says: {rejected[0]}")
    if rejected:
        print(f"{len(rejected)} frames left out; the first says: {rejected[0]}")
    return totals


def _stream(engine: str, refs: list[FrameRef], arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Rows of `SegmentFrames` for every frame, from Ray Data actors or from this process."""
    if engine == "local":
        actor = SegmentFrames(*arguments)
        yield from map(actor.count, refs)
        return
    with ray_session():
        import ray.data
        from ray.data import ActorPoolStrategy

        gpus = int(ray.cluster_resources().get("GPU", 0))
        workers = gpus or min(-(-len(refs) // FRAMES_WORTH_AN_ACTOR), os.cpu_count() or 1)
        size = max(1, min(16, -(-len(refs) // (4 * workers))))
        table = pa.Table.from_pylist([vars(ref) for ref in refs])
        blocks = [table.slice(start, size) for start in range(0, len(refs), size)]
        dataset = ray.data.from_arrow(blocks).map_batches(
            SegmentFrames,
            fn_constructor_args=arguments,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        yield from dataset.iter_rows()


def _report(
    totals: dict[str, NDArray[np.int64]], protocol: Protocol | None, run: Run
) -> dict[str, Any]:
    """The figures of the result, logged as metrics."""
    share = totals["usage"] / max(1, totals["usage"].sum())
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum() / np.log(len(share))
    result: dict[str, Any] = {
        "protocol": protocol.name if protocol else None,
        "frames": int(totals["frames"]),
        "clusters_used": int((share > 0).sum()),
        "cluster_entropy": float(entropy),
    }
    for name, prefix in ((NETWORK, ""), (UNTRAINED, "untrained_"), (COLOUR, "colour_")):
        scored = protocol is not None and name in totals
        score = scores(match(totals[name]).fold(totals[name])) if scored else None
        result[f"{prefix}miou"] = score.miou if score else None
        result[f"{prefix}accuracy"] = score.accuracy if score else None
    if protocol:
        folded = match(totals[NETWORK]).fold(totals[NETWORK])
        score = scores(folded)
        ious = zip(protocol.classes, score.per_class_iou.tolist(), strict=True)
        result["per_class_iou"] = {name: None if math.isnan(iou) else iou for name, iou in ious}
        result["absent_classes"] = [protocol.classes[i] for i in score.absent]
        for figure, image in score_figures(folded, protocol).items():
            run.figure(figure, image)
    run.metrics({k: v for k, v in result.items() if isinstance(v, int | float | dict)}, step=0)
    return result
