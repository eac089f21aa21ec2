"""All scores of a frozen network that need frames to fit on: probes, k-means, few labels.

Counted at the centres of the feature map's cells: stride 4, of the backbone's own features stride
8. Shape letters: F frames to fit on, P prototypes, C and D channels, K classes, R pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cpcdr.evaluate.clusters import cluster_prototypes
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.few_labels import class_information, few_labels_curve
from cpcdr.evaluate.matching import matched_scores, scores
from cpcdr.evaluate.probes import (
    Neighbours,
    RidgeProbe,
    grid_labels,
    linear_classes,
    prototype_purity,
    sample_pixels,
    sgd_probe,
)
from cpcdr.evaluate.report import clustered_scores
from cpcdr.evaluate.spherical import spherical_kmeans
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.device import half_on_gpu, images_at_once, pixels_on

KMEANS_SEEDS = 10
_KMEANS_PIXELS = 10_000  # of all frames together; more hardly move the centres
_KMEANS_PER_FRAME = 20  # at least; of many frames some are left out, evenly
_MOST_LABELLED = 400  # frames, evenly spaced, whose counts are kept for few labels
LabelledImage = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""An image [H, W, 3] and its labels [H, W]."""


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """A frame as its network sees it.

    Attributes:
        head: float32 [C, h, w] at stride 4, before the projector.
        codes: float32 [D, h, w] after it.
        backbone: float32 [C', h', w'], its maps of strides 8, 16 and 32, each L2-normalised.
    """

    head: Tensor
    codes: Tensor
    backbone: Tensor

    @cached_property
    def network(self) -> Tensor:
        """All that a network tells of a place, [C' + D, h', w']: the codes under the backbone's."""
        codes = functional.interpolate(self.codes[None], self.backbone.shape[-2:], mode="bilinear")
        return torch.cat([self.backbone, functional.normalize(codes[0], dim=0)])


def labelled_features(
    network: SegmentationNetwork, frames: Iterable[LabelledImage]
) -> Iterator[tuple[FrameFeatures, NDArray[np.uint8]]]:
    """Features of images of one size, each with its labels."""
    for images, labels in stacked(frames, network.prototypes.device):
        yield from zip(frame_features(network, images), labels, strict=True)


def stacked(
    frames: Iterable[LabelledImage], device: torch.device
) -> Iterator[tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]]:
    """As many images of one size as the device takes at once, uint8 [N, H, W, 3], and labels."""
    images, labels = list[NDArray[np.uint8]](), list[NDArray[np.uint8]]()
    for image, wanted in frames:
        images.append(image)
        labels.append(wanted)
        if len(images) == images_at_once(device, image.shape):
            yield np.stack(images), labels
            images, labels = [], []
    if images:
        yield np.stack(images), labels


@torch.inference_mode()
def frame_features(network: SegmentationNetwork, images: NDArray[np.uint8]) -> list[FrameFeatures]:
    """Features of each of the images uint8 [N, H, W, 3]; in half precision on a GPU."""
    device = network.prototypes.device
    with half_on_gpu(device):
        maps = network.maps(pixels_on(device, images))
        head = network.head(network.pyramid(maps))
        codes = network.projector(head)
    deep = [functional.normalize(each.float()) for each in maps[1:]]
    size = deep[0].shape[-2:]
    together = torch.cat([functional.interpolate(m, size, mode="bilinear") for m in deep], 1)
    return [
        FrameFeatures(*each) for each in zip(head.float(), codes.float(), together, strict=True)
    ]


def nearest_prototypes(network: SegmentationNetwork, features: FrameFeatures) -> NDArray[np.int64]:
    """The nearest prototype at stride 4, int64 [h, w]."""
    similarity = torch.einsum("dhw,pd->phw", features.codes, network.prototypes.detach())
    return similarity.argmax(0).cpu().numpy()


class PixelKMeans:
    """Spherical k-means on pixels of all frames, into as many clusters as classes."""

    def __init__(self, classes: int, per_frame: int) -> None:
        self.classes, self.per_frame = classes, per_frame
        self.random = np.random.default_rng(0)
        self.samples: list[NDArray[np.float32]] = []

    def fit(self, features: Tensor) -> None:
        """Draw pixels of a frame [C, h, w]."""
        flat = features.flatten(1)
        count = min(self.per_frame, flat.shape[1])
        chosen = self.random.choice(flat.shape[1], count, replace=False)
        self.samples.append(_rows(flat[:, torch.from_numpy(chosen)]))

    def finish(self) -> None:
        """Find the centres, once for each seed."""
        pixels = np.concatenate(self.samples)
        unit = pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-12)
        still = len(unit) // 1000
        randoms = map(np.random.RandomState, range(KMEANS_SEEDS))
        self.centres = [spherical_kmeans(unit, self.classes, r, still)[2] for r in randoms]
        self.counts = np.zeros((KMEANS_SEEDS, self.classes, self.classes), np.int64)
        self.samples = []

    def score(self, features: Tensor, labels: NDArray[np.uint8]) -> None:
        """Count a frame [C, h, w] against labels [h, w]."""
        rows, k = _rows(features), self.classes
        for counts, centres in zip(self.counts, self.centres, strict=True):
            nearest = (rows @ centres.T).argmax(1)
            counts += confusion(nearest, labels.ravel(), k, k)

    def result(self, name: str) -> dict[str, float]:
        """Mean and standard deviation of the mIoU over the seeds."""
        mious = [matched_scores(counts).miou for counts in self.counts]
        return {name: float(np.mean(mious)), f"{name}_sd": float(np.std(mious, ddof=1))}


class LinearScore:
    """The ridge probe of features, and its confusion."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.ridge: RidgeProbe | None = None
        self.counts = np.zeros((classes, classes), np.int64)

    def fit(self, features: Tensor, labels: NDArray[np.uint8]) -> None:
        """Accumulate a frame [C, h, w] with labels [h, w]."""
        self.ridge = self.ridge or RidgeProbe(len(features), self.classes)
        self.ridge.add(_rows(features), labels.ravel())

    def finish(self) -> None:
        """Solve for the weights."""
        assert self.ridge is not None, "no frame was fitted"
        self.weights = self.ridge.solve()

    def take_first(self, channels: int, other: "LinearScore") -> None:
        """Fit on the first channels of what another one was fitted on."""
        assert other.ridge is not None, "no frame was fitted"
        self.ridge = other.ridge.first(channels)

    def score(self, features: Tensor, labels: NDArray[np.uint8]) -> None:
        """Count a frame [C, h, w] against labels [h, w]."""
        predicted = linear_classes(self.weights, _rows(features))
        self.counts += confusion(predicted, labels.ravel(), self.classes, self.classes)


class NetworkScores:
    """All scores of one frozen network: `fit` each frame, `finish`, then `score` each frame.

    Args:
        frames: number of frames that will be fitted, at least 1.
        per_frame: pixels of each frame for SGD and neighbours; 0 leaves these two out.
        seed: of the pixels and of SGD.
    """

    def __init__(
        self, network: SegmentationNetwork, classes: int, frames: int, per_frame: int, seed: int
    ) -> None:
        self.network, self.classes, self.per_frame, self.seed = network, classes, per_frame, seed
        self.rng = np.random.default_rng(seed)
        pixels = max(_KMEANS_PIXELS // frames, _KMEANS_PER_FRAME)
        self.linear = {name: LinearScore(classes) for name in ("head", "network", "backbone")}
        kinds = ("codes", "backbone", "network")
        self.kmeans = {name: PixelKMeans(classes, pixels) for name in kinds}
        self.samples: list[tuple[Tensor, Tensor]] = []
        self.labelled: list[NDArray[np.int32]] = []
        self.every, self.fitted = -(-frames // _MOST_LABELLED), 0
        self.every_kmeans = -(-frames * pixels // _KMEANS_PIXELS)
        self.used = np.zeros((len(network.prototypes), classes), np.int64)
        self.sampled: dict[str, NDArray[np.int64]] = {}

    def fit(self, features: FrameFeatures, labels: NDArray[np.uint8]) -> None:
        """Accumulate a frame's features with its labels [H, W]."""
        if self.fitted % self.every_kmeans == 0:
            for name, kmeans in self.kmeans.items():
                kmeans.fit(getattr(features, name))
        for name in ("head", "network"):  # the backbone's features are the first of the network's
            part: Tensor = getattr(features, name)
            self.linear[name].fit(part, _grid(labels, part))
        self.channels = len(features.backbone)
        grid = _grid(labels, features.codes)
        if self.fitted % self.every == 0:
            self.labelled.append(self._count(features, grid).astype(np.int32))
        self.fitted += 1
        if self.per_frame:
            both = torch.cat([features.head, features.codes]).cpu()
            self.samples.append(sample_pixels(both, grid, self.per_frame, self.rng))

    def finish(self) -> None:
        """Fit what needs all frames."""
        self.linear["backbone"].take_first(self.channels, self.linear["network"])
        for linear in self.linear.values():
            linear.finish()
        for kmeans in self.kmeans.values():
            kmeans.finish()
        if not self.per_frame:
            return
        features, labels = (torch.cat(parts) for parts in zip(*self.samples, strict=True))
        sizes = [self.network.config.head_channels, self.network.config.feature_dim]
        head, codes = features.split(sizes, dim=1)
        self.sgd = sgd_probe(head, labels, self.classes, self.seed)
        unit = functional.normalize(codes[::2])
        self.neighbours = Neighbours(unit, labels[::2], self.classes)
        shape = (self.classes, self.classes)
        self.sampled = {name: np.zeros(shape, np.int64) for name in ("linear_sgd", "knn")}
        self.samples = []

    def score(self, features: FrameFeatures, labels: NDArray[np.uint8]) -> None:
        """Count a frame's features against its labels [H, W]."""
        for each in (self.linear, self.kmeans):
            for name, scored in each.items():
                part: Tensor = getattr(features, name)
                scored.score(part, _grid(labels, part))
        grid, k = _grid(labels, features.codes), self.classes
        self.used += self._count(features, grid)
        if self.per_frame:
            predicted = {
                "linear_sgd": linear_classes(self.sgd, _rows(features.head)),
                "knn": self.neighbours.classify(features.codes.flatten(1).T.cpu()),
            }
            for name, classes in predicted.items():
                self.sampled[name] += confusion(classes, grid.ravel(), k, k)

    def result(self) -> dict[str, float]:
        """mIoU by name, with what prototypes tell about classes; all in 0..1."""
        directions = self.network.prototypes.detach().cpu().numpy()
        released = cluster_prototypes(directions, self.classes)
        result = {
            "released": clustered_scores(self.used, released).miou,
            "class_information": class_information(self.used),
            "prototype_purity": prototype_purity(self.used),
            **self.kmeans["codes"].result("pixel_kmeans"),
            **self.kmeans["backbone"].result("backbone_kmeans"),
            "linear_ridge": scores(self.linear["head"].counts).miou,
            "backbone_ridge": scores(self.linear["backbone"].counts).miou,
            **self.kmeans["network"].result("network_kmeans"),
            "network_ridge": scores(self.linear["network"].counts).miou,
            **{name: scores(counts).miou for name, counts in self.sampled.items()},
        }
        curve = few_labels_curve(np.stack(self.labelled), self.used, directions, self.seed)
        for number, point in curve.items():
            result[f"few_labels_{number}"] = point["mean"]
            result |= {f"few_labels_{number}_{end}": point[end] for end in ("low", "high")}
        return result

    def _count(self, features: FrameFeatures, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Pixels of each prototype and class in a frame: int64 [P, K]."""
        return confusion(nearest_prototypes(self.network, features), labels, *self.used.shape)


def _grid(labels: NDArray[np.uint8], features: Tensor) -> NDArray[np.uint8]:
    return grid_labels(labels, tuple(features.shape[-2:]))


def _quarter(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return grid_labels(labels, tuple(-(-side // 4) for side in labels.shape))


def _rows(features: Tensor) -> NDArray[np.float32]:
    """Pixels as rows: [C, h, w] or [C, R] -> float32 [R, C]."""
    return features.flatten(1).T.cpu().numpy()


class Floors:
    """Predictions without a network: bands of equal height, and the usual class of every place.

    Bands are matched with classes as clusters are; the usual class of a place uses the labels of
    the frames that are fitted.
    """

    def __init__(self, classes: int) -> None:
        self.classes, self.place = classes, np.zeros((1, 1, classes), np.int64)
        self.counts = {n: np.zeros((classes, classes), np.int64) for n in ("bands", "place")}

    def fit(self, labels: NDArray[np.uint8]) -> None:
        """Accumulate labels [H, W]; all frames have one size."""
        grid = _quarter(labels)
        hot = np.eye(self.classes + 1, dtype=np.int64)[np.minimum(grid, self.classes)]
        self.place = self.place + hot[..., :-1]

    def score(self, labels: NDArray[np.uint8]) -> None:
        """Count labels [H, W] of an evaluated frame."""
        labels = _quarter(labels)
        height, k = len(labels), self.classes
        bands = np.broadcast_to((np.arange(height) * k // height)[:, None], labels.shape)
        for name, predicted in (("bands", bands), ("place", self.place.argmax(-1))):
            self.counts[name] += confusion(predicted, labels, k, k)

    def result(self) -> dict[str, float]:
        """mIoU by name."""
        bands, place = matched_scores(self.counts["bands"]), scores(self.counts["place"])
        return {"bands": bands.miou, "place": place.miou}
