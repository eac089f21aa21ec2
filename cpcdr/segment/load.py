"""Loading a trained network from a folder, an MLflow run or the model registry."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS, cluster_prototypes
from cpcdr.evaluate.segmenters import PrototypeSegmenter
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import IGNORE, PROTOCOLS, Protocol
from cpcdr.frames.resize import covering_size
from cpcdr.model.backbone import Backbone
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.runtime.checkpoint import CONFIG, read_config, trained_size
from cpcdr.runtime.device import images_at_once
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.progress import phase
from cpcdr.runtime.tracking.models import find_checkpoint
from cpcdr.segment.image import ImageLike, pixels_of
from cpcdr.segment.naming import NAMED, classes_of
from cpcdr.visualize.pictures import region_colours

_HELD = 2**25
"""Scores at the size of an image that are held at once: 128 MiB."""


@dataclass(frozen=True, eq=False, repr=False)
class LoadedNetwork:
    """A network ready to segment.

    Attributes:
        names: of the K classes, or ``cluster 0`` .. for a network trained without labels.
        colours: uint8 [K, 3] RGB.
        size: (H, W) of the frames or crops that the network was trained on.
    """

    segmenter: PrototypeSegmenter | ClassSegmenter
    names: tuple[str, ...]
    colours: NDArray[np.uint8]
    size: tuple[int, int]

    def __repr__(self) -> str:
        height, width = self.size
        kind = "clusters" if self.names[0] == "cluster 0" else "classes"
        return (
            f"LoadedNetwork({self.network.config.backbone}, {len(self.names)} {kind}, "
            f"trained at {width}x{height}, {self.segmenter.device})"
        )

    @property
    def network(self) -> SegmentationNetwork:
        """Backbone, pyramid, head and prototypes."""
        segmenter = self.segmenter
        return (
            segmenter.module.network if isinstance(segmenter, ClassSegmenter) else segmenter.network
        )

    @property
    def backbone(self) -> Backbone:
        """The backbone: normalised images [B, 3, H, W] -> feature maps, finest first.

        It has ``channels`` and ``strides`` of the maps, and ``normalisation``, a callable with
        ``mean`` and ``std``: ``backbone(backbone.normalisation(images))`` of images in 0..1.
        """
        return self.network.backbone

    def segment_all(self, images: Iterable[ImageLike]) -> list[NDArray[np.uint8]]:
        """`segment` of each image of a batch: a list of any sizes, or an array [N, H, W, 3].

        A GPU takes several of one size at once.
        """
        return [ids for _, ids in self._segmented(images)]

    def segment(self, image: ImageLike) -> NDArray[np.uint8]:
        """Class or cluster of every pixel of an image, uint8 [H, W].

        Args:
            image: a path, a PIL image, or an array uint8 [H, W, 3] RGB.

        It is scaled like training frames, to cover the training size, but not cropped. The
        network's scores are brought to the image's size before the highest is taken, so that edges
        are as smooth as they are.

        Raises:
            InputError: it is not such an image.
        """
        return self.segment_all([image])[0]

    def overlays(
        self, images: Iterable[ImageLike], opacity: float = 0.5
    ) -> Iterator[NDArray[np.uint8]]:
        """`overlay` of each image, as `segment_all` takes them."""
        for pixels, ids in self._segmented(images):
            blended = cv2.addWeighted(self.colours[ids], opacity, pixels, 1 - opacity, 0)
            yield blended.astype(np.uint8)

    def overlay(self, image: ImageLike, opacity: float = 0.5) -> NDArray[np.uint8]:
        """The image, as for `segment`, under the colours of its classes, uint8 [H, W, 3]."""
        return next(self.overlays([image], opacity))

    def _segmented(
        self, images: Iterable[ImageLike]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Pixels and classes of each image."""
        for (height, width), same in groupby(map(pixels_of, images), key=lambda p: p.shape[:2]):
            size = covering_size((height, width), self.size)
            method = cv2.INTER_AREA if size[0] < height else cv2.INTER_LINEAR
            while some := list(islice(same, images_at_once(self.segmenter.device, size))):
                small = [cv2.resize(pixels, size[::-1], interpolation=method) for pixels in some]
                scores = self.segmenter.scores(np.stack(small).astype(np.uint8))
                for pixels, each in zip(some, scores, strict=True):
                    yield pixels, highest(each, (height, width))


@torch.inference_mode()
def highest(scores: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [*size]: which of the scores [K, h, w], K up to 256, is highest once they are enlarged.

    Bilinear, with a few of the scores at a time. Of equal scores the first counts.
    """
    best = torch.full(size, -torch.inf, device=scores.device)
    ids = torch.zeros(size, dtype=torch.uint8, device=scores.device)
    for start in range(0, len(scores), step := max(1, _HELD // (size[0] * size[1]))):
        part = scores[start : start + step][None]
        if part.shape[-2:] != size:
            part = functional.interpolate(part, size, mode="bilinear", align_corners=False)
        value, index = part[0].max(dim=0)
        ids = torch.where(value > best, (index + start).to(torch.uint8), ids)
        best = torch.maximum(best, value)
    return ids.cpu().numpy()


@phase("loading the network")
def load_network_for_use(
    model: str | Path, clusters: int = CLUSTERS_WITHOUT_LABELS
) -> LoadedNetwork:
    """Load a trained network.

    Args:
        model: a checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        clusters: number of clusters of a pre-trained network's prototypes.

    Raises:
        InputError: the model does not exist, is not a pre-trained, named or fine-tuned network
            or probe, or has too few prototypes.
    """
    folder = find_checkpoint(str(model))
    values = read_config(folder, "pretrain", "name", "finetune", "probe")
    if values["kind"] == "pretrain":
        network = _clustering_network(folder, values["config"], clusters)
    elif values["kind"] == NAMED:
        network = _named_network(folder, values["config"])
    else:
        network = _class_network(folder, values["config"])
    network.segmenter.load()
    return network


def _clustering_network(folder: Path, config: dict[str, Any], clusters: int) -> LoadedNetwork:
    size = trained_size(folder, config)
    prototypes = load_network(folder)[0].prototypes.detach().numpy()
    limit = min(IGNORE, len(prototypes))  # 8-bit ids, of which 255 means none
    if not 1 <= clusters <= limit:
        raise InputError(
            f"--clusters {clusters}: {folder} has {len(prototypes)} prototypes, and ids have 8 "
            f"bits; take 1 to {limit}."
        )
    names = tuple(f"cluster {i}" for i in range(clusters))
    segmenter = PrototypeSegmenter(folder, cluster_prototypes(prototypes, clusters), clusters)
    return LoadedNetwork(segmenter, names, region_colours(clusters), size)


def _named_network(folder: Path, config: dict[str, Any]) -> LoadedNetwork:
    protocol, size = _protocol(folder, config), trained_size(folder, config)
    classes = classes_of(folder, config, len(load_network(folder)[0].prototypes))
    segmenter = PrototypeSegmenter(folder, classes, len(protocol.classes))
    return LoadedNetwork(segmenter, protocol.classes, protocol.colours, size)


def _protocol(folder: Path, config: dict[str, Any]) -> Protocol:
    name = str(config.get("protocol"))
    if name not in PROTOCOLS:
        raise InputError(
            f"{folder / CONFIG}: its protocol '{name}' is none of {', '.join(PROTOCOLS)}; give a "
            "checkpoint of this version of cpcdr."
        )
    return PROTOCOLS[name]


def _class_network(folder: Path, config: dict[str, Any]) -> LoadedNetwork:
    protocol, size = _protocol(folder, config), trained_size(folder, config)
    return LoadedNetwork(ClassSegmenter(folder), protocol.classes, protocol.colours, size)
