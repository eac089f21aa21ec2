"""Probes of a pre-trained network as a command."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpcdr.checkpoint import read_checkpoint
from cpcdr.config import config_hash, to_plain, write_atomic
from cpcdr.errors import FrameError, InputError
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.matching import scores
from cpcdr.evaluate.probes import (
    Neighbours,
    RidgeProbe,
    grid_labels,
    linear_classes,
    prototype_purity,
    sample_pixels_of_frames,
    sgd_probe,
)
from cpcdr.evaluate.segmenters import open_network
from cpcdr.frames import FrameOptions, FrameSource, fit, get_protocol, open_frames
from cpcdr.model import SegmentationNetwork
from cpcdr.progress import Progress
from cpcdr.tracking import TrackingConfig, open_run

_PER_FRAME = 400


@dataclass(frozen=True)
class ProbeConfig:
    """What the frozen features of a pre-trained network know, beside the untrained network's.

    Attributes:
        checkpoint: folder written by pretrain.py.
        frames: labelled frames that the probes are fitted on.
        evaluate: labelled frames of the same protocol that they are scored on.
        size: height and width; 0 0: those of the training.
        out: folder for probes.json; empty: beside the checkpoint.
        seed: of the sampled pixels and of SGD.
    """

    checkpoint: Path = Path("runs/demo/seed-0/pretrain/checkpoint")
    frames: str = "synthetic:seed=0,streets=48,frames=1,height=96,width=192"
    evaluate: str = "synthetic:seed=1000,streets=32,frames=1,height=96,width=192"
    size: tuple[int, int] = (0, 0)
    out: Path = Path()
    seed: int = 0
    options: FrameOptions = field(default_factory=FrameOptions)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def probe(config: ProbeConfig) -> dict[str, Any]:
    """Fit and score every probe on both networks; mIoU is counted at stride 4.

    Returns:
        ``protocol`` and, each also as ``untrained_...``: ``linear_ridge``, ``linear_sgd``, ``knn``
        (mIoU) and ``prototype_purity``.

    Raises:
        InputError: checkpoint, frames or labels cannot be used.
    """
    start = time.perf_counter()
    values, _ = read_checkpoint(config.checkpoint, "pretrain")
    fitted, scored = (open_frames(f, config.options) for f in (config.frames, config.evaluate))
    if not fitted.protocol or fitted.protocol != scored.protocol:
        raise InputError(
            f"{config.frames} and {config.evaluate} have labels of '{fitted.protocol}' and "
            f"'{scored.protocol}'; probes need labels of one protocol."
        )
    size = config.size if min(config.size) > 0 else tuple(values["config"]["dataset"]["size"])
    plain = {k: v for k, v in to_plain(config).items() if k not in ("tracking", "out")}
    digest = config_hash({**plain, "training": values["config"], "step": values["step"]})
    out = config.out if config.out != Path() else config.checkpoint.parent
    result: dict[str, Any] = {"protocol": fitted.protocol}
    with open_run(config.tracking, "probe", digest, plain, out) as run:
        for prefix, trained in (("", True), ("untrained_", False)):
            network = open_network(config.checkpoint, trained)
            found = _probe(network, fitted, scored, (size[0], size[1]), config.seed)
            result |= {prefix + name: value for name, value in found.items()}
        run.metrics({k: v for k, v in result.items() if isinstance(v, float)}, step=0)
        result |= {"config_hash": digest, "run_id": run.run_id}
        result["seconds"] = round(time.perf_counter() - start, 1)
        write_atomic(out / "probes.json", json.dumps(result, indent=2) + "\n")
    return result


def _probe(
    network: SegmentationNetwork,
    fitted: FrameSource,
    scored: FrameSource,
    size: tuple[int, int],
    seed: int,
) -> dict[str, float]:
    classes = len(get_protocol(fitted.protocol).classes)
    ridge, embedded, projected = None, [], []
    for features, codes, labels in _features(network, fitted, size):
        ridge = ridge or RidgeProbe(len(features), classes)
        ridge.add(features.flatten(1).T.numpy(), labels.ravel())
        embedded.append((features, labels))
        projected.append((codes, labels))
    if ridge is None:
        raise InputError(f"{fitted.spec}: no labelled frame can be read.")
    x, y = sample_pixels_of_frames(embedded, _PER_FRAME, seed)
    codes, names = sample_pixels_of_frames(projected, _PER_FRAME // 2, seed)
    neighbours = Neighbours(torch.nn.functional.normalize(codes, dim=1), names, classes)
    linear = {"linear_ridge": ridge.solve(), "linear_sgd": sgd_probe(x, y, classes, seed)}
    counts = {name: np.zeros((classes, classes), np.int64) for name in (*linear, "knn")}
    used = np.zeros((len(network.prototypes), classes), np.int64)
    for features, codes, labels in _features(network, scored, size):
        flat, truth = features.flatten(1).T.numpy(), labels.ravel()
        for name, weights in linear.items():
            counts[name] += confusion(linear_classes(weights, flat), truth, classes, classes)
        queries = codes.flatten(1).T
        counts["knn"] += confusion(neighbours.classify(queries), truth, classes, classes)
        nearest = (queries @ network.prototypes.T).argmax(1).numpy()
        used += confusion(nearest, truth, len(used), classes)
    found = {name: scores(table).miou for name, table in counts.items()}
    return found | {"prototype_purity": prototype_purity(used)}


@torch.inference_mode()
def _features(
    network: SegmentationNetwork, source: FrameSource, size: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor, NDArray[np.uint8]]]:
    """Embedded [C, h, w] and projected [D, h, w] features of each frame, and labels [h, w]."""
    for ref in Progress(source.refs(), desc="probe", unit="frame", leave=False):
        try:
            frame = fit(source.read(ref), size)
        except FrameError:
            continue
        if frame.labels is None:
            continue
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255
        embedded = network.embed(pixels)
        yield (
            embedded[0],
            network.projector(embedded)[0],
            grid_labels(frame.labels, tuple(embedded.shape[-2:])),
        )
