"""Networks and floors scored on the same frames: a pass to fit on, and a pass to score on."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.evaluate.few_labels import NUMBERS
from cpcdr.evaluate.network_scores import (
    Floors,
    FrameFeatures,
    LabelledImage,
    NetworkScores,
    frame_features,
    stacked,
)
from cpcdr.frames import IGNORE, FrameRef, FrameSource, fit, get_protocol
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.device import default_device
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress, phase
from cpcdr.runtime.tables import counted, text_table

TITLES = {
    "released": "average linkage of prototypes",
    "pixel_kmeans": "spherical k-means on pixels",
    "class_information": "what prototypes tell about classes",
    "prototype_purity": "purity of prototypes",
    **{f"few_labels_{n}": f"prototypes named by {n} labelled frames *" for n in NUMBERS},
    "linear_ridge": "linear probe, ridge *",
    "linear_sgd": "linear probe, SGD *",
    "knn": "nearest neighbours *",
    "backbone_kmeans": "spherical k-means on the backbone",
    "backbone_ridge": "linear probe of the backbone, ridge *",
    "network_kmeans": "spherical k-means on backbone and codes",
    "network_ridge": "linear probe of backbone and codes, ridge *",
}
"""Scores of a network in tables; those with an asterisk take labels of the frames fitted on."""
FLOORS = {"bands": "equal bands of height", "place": "the usual class of each place *"}


def score_networks(
    networks: Mapping[str, SegmentationNetwork],
    fitted: FrameSource,
    scored: FrameSource,
    size: tuple[int, int],
    per_frame: int,
    seed: int,
) -> tuple[dict[str, NetworkScores], dict[str, float]]:
    """Fit and score all networks.

    Args:
        networks: by the prefix of their scores.
        fitted: labelled frames to fit on.
        scored: labelled frames of the same protocol to score on.
        per_frame: pixels of each frame for SGD and neighbours; 0 leaves these two out.
        seed: of the pixels and of SGD.

    Returns:
        what was fitted, by prefix, and all scores: see `NetworkScores.result`, `Floors.result`.

    Raises:
        InputError: no frame of one of the sources has readable labels.
    """
    classes, device = len(get_protocol(fitted.protocol).classes), default_device()
    frames = len(fitted.refs())
    scores = {
        prefix: NetworkScores(network.to(device), classes, frames, per_frame, seed)
        for prefix, network in networks.items()
    }
    floors = Floors(classes)
    for labels, features in _seen(labelled_frames(fitted, size), scores, device):
        floors.fit(labels)
        for prefix, each in scores.items():
            each.fit(features[prefix], labels)
    with phase("fitting the probes"):
        for each in scores.values():
            each.finish()
    for labels, features in _seen(labelled_frames(scored, size), scores, device):
        floors.score(labels)
        for prefix, each in scores.items():
            each.score(features[prefix], labels)
    with phase("computing scores"):
        numbers = {
            prefix + name: value
            for prefix, each in scores.items()
            for name, value in each.result().items()
        }
    return scores, numbers | floors.result()


def _seen(
    frames: Iterable[LabelledImage], scores: Mapping[str, NetworkScores], device: torch.device
) -> Iterator[tuple[NDArray[np.uint8], dict[str, FrameFeatures]]]:
    """Labels of each frame, and its features by every network."""
    for images, labels in stacked(frames, device):
        features = [frame_features(each.network, images) for each in scores.values()]
        for of_frame, of_networks in zip(labels, zip(*features, strict=True), strict=True):
            yield of_frame, dict(zip(scores, of_networks, strict=True))


def labelled_frame(source: FrameSource, ref: FrameRef, size: tuple[int, int]) -> LabelledImage:
    """An image [H, W, 3] of ``size`` with its labels.

    Raises:
        FrameError: it cannot be read, or no pixel is labelled.
    """
    frame = fit(source.read(ref), size)
    if frame.labels is None:
        raise FrameError(f"{ref.frame_id} has no label map.")
    if (frame.labels == IGNORE).all():
        raise FrameError(f"{ref.label_path or ref.frame_id} labels no pixel.")
    return frame.image, frame.labels


def labelled_frames(source: FrameSource, size: tuple[int, int]) -> Iterator[LabelledImage]:
    """Images [H, W, 3] of ``size`` with their labels; reports left-out frames at the end.

    Raises:
        InputError: no frame has readable labels.
    """
    refs, left_out, first = source.refs(), 0, ""
    with Progress(refs, desc="labelled frames", unit="frame", leave=False) as bar:
        for ref in bar:
            try:
                frame = labelled_frame(source, ref, size)
            except FrameError as error:
                left_out, first = left_out + 1, first or str(error)
                continue
            yield frame
    if left_out == len(refs):
        raise InputError(f"{source.spec}: no labelled frame can be read; first error: {first}")
    if left_out:
        print(f"{source.spec}: {counted(left_out, 'frame')} left out; first error: {first}")


def scores_table(result: Mapping[str, Any]) -> str:
    """Scores of the network, of the untrained one and of the floors, in per cent."""

    def cell(name: str) -> str:
        if name not in result:
            return ""
        text = f"{100 * result[name]:.1f}"
        return f"{text} ± {100 * result[f'{name}_sd']:.1f}" if f"{name}_sd" in result else text

    rows = [[f"{result['protocol']}, % (mIoU unless said)", "network", "untrained"]]
    rows += [
        [title, cell(name), cell(f"untrained_{name}")]
        for name, title in TITLES.items()
        if name in result
    ]
    rows += [[title, cell(name), ""] for name, title in FLOORS.items()]
    return f"\n{text_table(rows)}\n* takes labels of the frames that it is fitted on\n"
