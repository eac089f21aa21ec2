"""Scores of a pre-trained network with and without labels.

With labels: what prototypes tell about classes, which ranks networks as a linear probe does, and
mIoU of the unsupervised protocol. Without: the mutual information between the clusters of two
pixels that should have the same meaning. It is high only if the clusters agree *and* vary over the
scene: a network that assigns one cluster everywhere agrees with itself perfectly and scores 0.

``view_information``    a pixel in a frame, and in that frame magnified and mirrored
``region_information``  two pixels of one coherent depth region; the regions are those of the
                        dataset that the search started from, equal for all trials

The measure is that of Ji, Henriques and Vedaldi 2019, "Invariant information clustering" (ICCV),
where it is the training loss; here it is only a score.
"""

import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cpcdr.dataset import PreparedDataset, Sample
from cpcdr.evaluate.clusters import cluster_prototypes
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.few_labels import class_information
from cpcdr.evaluate.report import clustered_scores
from cpcdr.frames import Frame, FrameOptions, get_protocol, open_frames
from cpcdr.frames.pick import spread, spread_frames, whole_size
from cpcdr.frames.protocols import evaluation_size
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.device import default_device

ZOOM = 1.5
LABEL_FREE = ("view_information", "region_information")


@lru_cache(maxsize=2)
def held_out(
    spec: str, options: FrameOptions, size: tuple[int, int], count: int
) -> tuple[list[Frame], str]:
    """Up to ``count`` frames spread over a source, and its protocol ("" without labels).

    Cached: all reports of all trials in a process use the same frames.
    """
    source = open_frames(spec, options)
    protocol = get_protocol(source.protocol) if source.protocol else None
    whole = evaluation_size(protocol, (0, 0), whole_size(source, size))
    return spread_frames(source, whole, count), source.protocol


@lru_cache(maxsize=2)
def region_frames(data: Path, count: int) -> list[Sample]:
    """Up to ``count`` frames spread over a dataset, with its own regions."""
    dataset = PreparedDataset(data)
    return dataset.samples(spread(len(dataset), count))


def _nearest(network: SegmentationNetwork, image: NDArray[np.uint8]) -> NDArray[np.int64]:
    return network.nearest_of(image[None])[0]


@torch.inference_mode()
def score_network(
    checkpoint: Path, frames: list[Frame], protocol: str, samples: list[Sample], clusters: int
) -> dict[str, float]:
    """Score a checkpoint.

    Args:
        frames: held-out frames, labelled if there is a ``protocol``.
        protocol: its name; "" scores without labels only.
        clusters: number of clusters for the scores without labels; with labels the protocol
            determines it.

    Returns:
        ``view_information`` and ``region_information`` in 0..1, with labels ``class_information``,
        ``miou`` and ``accuracy``.
    """
    network = load_network(checkpoint)[0]
    network = network.to(default_device())
    directions = network.prototypes.detach().cpu().numpy()
    cluster = cluster_prototypes(directions, clusters)
    seen = [_nearest(network, frame.image) for frame in frames]
    views = np.zeros((clusters, clusters))
    for number, (frame, nearest) in enumerate(zip(frames, seen, strict=True)):
        image, rows, columns = magnified(frame.image, number)
        views += joint(cluster[nearest[rows, columns]], cluster[_nearest(network, image)], clusters)
    regions = np.zeros((clusters, clusters))
    for sample in samples:
        regions += within(cluster[_nearest(network, sample.image)], sample.regions, clusters)
    result = {"view_information": information(views), "region_information": information(regions)}
    if protocol:
        classes = len(get_protocol(protocol).classes)
        used = np.zeros((len(directions), classes), np.int64)
        for nearest, frame in zip(seen, frames, strict=True):
            if frame.labels is not None:
                used += confusion(nearest, frame.labels, *used.shape)
        score = clustered_scores(used, cluster_prototypes(directions, classes))
        result |= {"class_information": class_information(used)}
        result |= {"miou": score.miou, "accuracy": score.accuracy}
    return result


def magnified(
    image: NDArray[np.uint8], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """A mirrored part of an image, `ZOOM` times as large, at a place drawn with ``seed``.

    Returns:
        the view, at the size of the image, and the row and column in the image that each pixel of
        the view shows: int64 [H, 1] and [1, W].
    """
    height, width = image.shape[:2]
    high, wide = round(height / ZOOM), round(width / ZOOM)
    random = np.random.default_rng(seed)
    top, left = int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))
    part = image[top : top + high, left : left + wide][:, ::-1]
    view = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_LINEAR)
    rows = top + np.arange(height) * high // height
    columns = left + wide - 1 - np.arange(width) * wide // width
    return view.astype(np.uint8, copy=False), rows[:, None], columns[None]


def joint(
    first: NDArray[np.int64], second: NDArray[np.int64], clusters: int
) -> NDArray[np.float64]:
    """Number of pixels with cluster i in one map and j in the other: [clusters, clusters]."""
    both = first.ravel() * clusters + second.ravel()
    return np.bincount(both, minlength=clusters**2).reshape(clusters, clusters).astype(np.float64)


def within(
    assigned: NDArray[np.int64], regions: NDArray[np.integer], clusters: int
) -> NDArray[np.float64]:
    """Expected counts of the cluster pairs of two pixels drawn from one region."""
    count = int(regions.max()) + 1
    keys = regions.ravel().astype(np.int64) * clusters + assigned.ravel()
    table = np.bincount(keys, minlength=count * clusters).reshape(count, clusters)
    return table.T @ (table / np.maximum(table.sum(axis=1, keepdims=True), 1))


def information(counts: NDArray[np.float64]) -> float:
    """Mutual information of rows and columns, normalised by its maximum to 0..1.

    >>> information(np.eye(4)), information(np.ones((4, 4)))
    (1.0, 0.0)
    """
    p_joint = (counts + counts.T) / (2 * counts.sum())
    p_single = p_joint.sum(axis=0)
    positive = p_joint > 0
    ratio = p_joint[positive] / np.outer(p_single, p_single)[positive]
    return float((p_joint[positive] * np.log(ratio)).sum() / math.log(len(counts)))
