"""Supervised fine-tuning of a pre-trained network as a task for the worker loop."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpcdr.depth.augment import apply_colour, colour_matrices
from cpcdr.frames import FrameRef, FrameSource, get_protocol
from cpcdr.frames.pick import usual_size
from cpcdr.frames.reader import FrameReader, image_and_labels
from cpcdr.frames.resize import picture_size
from cpcdr.model.config import HOW, ModelConfig
from cpcdr.model.finetuned import FinetuneModule
from cpcdr.model.segmentation import SegmentationNetwork, load_network
from cpcdr.model.weights import find_start, load_backbone, named_start
from cpcdr.runtime.checkpoint import read_config, trained_size
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.device import move, to_unit_float
from cpcdr.train.finetune_config import FinetuneSettings
from cpcdr.train.labelled import chosen_refs, random_crop, survey
from cpcdr.train.prefetch import prefetch

_READERS = 2


class FinetuneTask:
    """Implements `cpcdr.train.task.Task`.

    Attributes:
        refs: the labelled frames that are used, in a fixed order.
        rejected: why others of the chosen fraction cannot be used, by frame id.

    Raises:
        InputError: no labels that can be used, or a start that cannot be loaded.
    """

    kind = "finetune"

    def __init__(self, settings: FinetuneSettings, source: FrameSource, seed: int = 0) -> None:
        refs = chosen_refs(source, settings.fraction)
        self.start = find_start(settings.network, settings.model.backbone)
        self.source, self.seed = source, seed
        self.classes = len(get_protocol(source.protocol).classes)
        self.model = _model_of(settings, self.start)
        size = settings.size if any(settings.size) else _size_of(source, self.start)
        network = named_start(settings.network, self.start)
        self.settings = replace(settings, network=network, size=size)
        labelled = survey(source, refs)
        self.refs, self.rejected = labelled.refs, labelled.rejected
        frequency = (labelled.pixels / labelled.pixels.sum()).tolist()
        self.weights = [1 / math.log(1.02 + f) for f in frequency] if settings.balanced else None
        self._open()

    def _open(self) -> None:
        """Reader and threads live across epochs, so that decoded frames are used again."""
        settings = self.settings
        room = (settings.cache_mib << 20) // (4 * math.prod(settings.size))
        self._reader = FrameReader(self.source, settings.size, room, image_and_labels)
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="labelled")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_reader", "_pool")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def build(self) -> nn.Module:
        """The network with what is transferred of ``network``, and a new classifier."""
        weights = None if self.weights is None else torch.tensor(self.weights)
        module = FinetuneModule(self.model, self.classes, weights)
        if Path(self.start).is_file() or (self.start and self.settings.transfer == "backbone"):
            load_backbone(module.network, self.start)
        elif self.start:
            module.network.load_state_dict(load_network(Path(self.start))[0].state_dict())
        module.network.freeze()
        return module

    def steps_per_epoch(self, world_size: int) -> int:
        """At least one: few frames are repeated within a step."""
        return max(1, len(self.refs) // (self.settings.batch_size * world_size))

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """Random crops, read ahead: ``images`` float32 [B, 3, H, W], ``labels`` int64 [B, H, W]."""
        per_epoch = self.steps_per_epoch(world_size)

        @lru_cache(maxsize=2)
        def table(epoch: int) -> NDArray[np.int64]:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.refs))
            size = (per_epoch, self.settings.batch_size * world_size)
            return np.resize(order, size)[:, rank::world_size]

        def read(number: int) -> tuple[Tensor, Tensor, Tensor]:
            epoch, step = divmod(number, per_epoch)
            rng = np.random.default_rng([self.seed, epoch, step, rank])
            return self._crops([self.refs[i] for i in table(epoch)[step]], rng)

        for images, labels, colours in prefetch(read, count(first)):
            pixels = to_unit_float(move(images, device))
            yield {
                "images": apply_colour(move(colours, device), pixels[:, None])[:, 0],
                "labels": move(labels, device).long(),
            }

    def _crops(
        self, refs: list[FrameRef], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each frame a crop uint8 [B, H, W, 3], its labels and its change of colour."""
        s = self.settings
        pairs = list(self._pool.map(self._reader.read, refs))
        crops = [random_crop(*pair, s.size, s.scales, rng) for pair in pairs]
        images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
        return images, labels, colour_matrices(rng, len(images), s.jitter)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The network, and the classifier at a larger learning rate."""
        assert isinstance(model, FinetuneModule)
        return [
            *model.network.parameter_groups(),
            {"params": list(model.classifier.parameters()), "lr_scale": self.settings.head_lr},
        ]

    def after_step(self, model: nn.Module) -> None:
        """Nothing to do."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Nothing is held out."""
        return {}

    def finish(self, model: nn.Module) -> None:
        """The last weights stay as they are."""

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """Labels hold a network in place."""
        return ""

    def config(self) -> dict[str, Any]:
        """Settings, sizes of the network, the labels' protocol and the data."""
        return {
            **to_plain(self.settings),
            "seed": self.seed,
            "model": to_plain(self.model),
            "protocol": self.source.protocol,
            "frames": self.source.spec,
            "labelled_frames": len(self.refs),
            "left_out": sorted(self.rejected),
        }


def _size_of(source: FrameSource, start: str) -> tuple[int, int]:
    """Of the crops: as large as what the start was trained on, or showing all of a frame."""
    if not start or Path(start).is_file():
        return picture_size(usual_size(source))
    return trained_size(Path(start), read_config(Path(start), "pretrain", "name")["config"])


def _model_of(settings: FinetuneSettings, start: str) -> ModelConfig:
    """Sizes of the network; a start that cannot be loaded is refused here, before anything else."""
    if not start or Path(start).is_file():
        if start:
            print(load_backbone(SegmentationNetwork(settings.model), start))
        return settings.model
    sizes = load_network(Path(start))[0].config
    how = {name: getattr(settings.model, name) for name in HOW}
    return replace(sizes, **how)
