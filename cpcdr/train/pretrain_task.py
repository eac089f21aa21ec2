"""The pre-training task: dense SwAV on mosaics with copy-pasted coherent depth regions."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, Plan, draw, render
from cpcdr.dataset import Sample, opened, read_manifest
from cpcdr.frames.pick import spread
from cpcdr.loss.config import LossConfig
from cpcdr.loss.swapped_prediction import copy_paste_loss
from cpcdr.model.config import ModelConfig
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.model.statistics import estimate_statistics, with_momentum
from cpcdr.model.weights import (
    find_start,
    interpolate_backbone,
    load_backbone,
    loaded_weights,
    named_start,
    start_digest,
)
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.device import move, to_unit_float
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.storage import location
from cpcdr.train.config import PretrainConfig, PretrainSettings
from cpcdr.train.epoch_order import EpochOrder
from cpcdr.train.prefetch import one_ahead, prefetch

_GPU_READERS = 8
_REGIONS = 256
"""Numbers of regions are multiples of it: a compiled step on a GPU records a graph for each."""
_CLEAN = 64
"""Frames that statistics are re-estimated on."""


class PretrainModule(nn.Module):
    """The network with its loss: ``forward`` is what DDP wraps."""

    def __init__(
        self,
        model: ModelConfig,
        loss: LossConfig,
        rounds: tuple[list[int], list[int]] = ([], []),
        frames: int = 1,
    ) -> None:
        """Network and loss.

        Args:
            rounds: of an item's images, those without pastes and those with; for ``separate``.
            frames: M, images of a round.
        """
        super().__init__()
        self.network = SegmentationNetwork(model)
        self.loss_config, self.rounds, self.frames = loss, rounds, frames
        self.started_from: dict[str, Tensor] = {}

    def _features(self, images: Tensor) -> Tensor:
        """The network's, of mixed images [BN, 3, H, W] in the order of a `Mosaic`."""
        unmixed, mixed = self.rounds
        if self.network.config.norm != "separate" or not mixed:
            return self.network(images)
        by_round = images.unflatten(0, (-1, len(unmixed) + len(mixed), self.frames))
        parts = [by_round[:, rounds].flatten(0, 2) for rounds in (unmixed, mixed)]
        first = self.network(parts[0])
        with with_momentum(self.network, 0.0):
            second = self.network(parts[1])
        found = [
            f.unflatten(0, (-1, len(rounds), self.frames))
            for f, rounds in zip((first, second), (unmixed, mixed), strict=True)
        ]
        order = [*unmixed, *mixed]
        back = [order.index(k) for k in range(len(order))]
        return torch.cat(found, dim=1)[:, back].flatten(0, 2)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        features = self._features(batch["images"])
        with torch.autocast(features.device.type, enabled=False):
            metrics = copy_paste_loss(
                features,
                self.network.prototypes,
                batch,
                (batch["point_image"], batch["point_xy"]),
                self.loss_config,
            )
        return metrics | {"pasted_fraction": batch["pasted_fraction"]}


@dataclass(frozen=True)
class PretrainTask:
    """Pre-training on a dataset folder; implements `cpcdr.train.task.Task`.

    Attributes:
        frames_per_item: M; an item has 2M mixed images.
        items: items a worker and step.
        start: file or folder of the weights that the backbone starts from; empty: random.
    """

    data: Path | str
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)
    frames_per_item: int = 8
    items: int = 1
    seed: int = 0
    start: str = ""
    kind: str = "pretrain"

    def build(self) -> nn.Module:
        """Network and loss, randomly initialised but for a backbone with a start."""
        pastes = self.copy_paste.pastes
        unmixed = [k for k, count in enumerate(pastes) if not count]
        if self.model.norm == "separate" and not unmixed:
            raise InputError(
                "norm separate: needs images without pastes; give --copy-paste.pastes 0 4, or as "
                "many numbers as you like with a 0 among them."
            )
        rounds = unmixed, [k for k, count in enumerate(pastes) if count]
        module = PretrainModule(self.model, self.loss, rounds, self.frames_per_item)
        if self.start:
            load_backbone(module.network, self.start)
            if self.model.interpolate < 1:
                module.started_from = loaded_weights(module.network)
        module.network.freeze()
        return module

    def steps_per_epoch(self, world_size: int) -> int:
        """Whole steps in an epoch; the rest of the frames waits for the next epoch's shuffle."""
        items = read_manifest(self.data)["frames"] // self.frames_per_item
        steps = items // (self.items * world_size)
        if steps < 1:
            raise InputError(
                f"{self.data}: has frames for {items} mosaics of {self.frames_per_item}, but one "
                f"step of {world_size} workers needs {self.items * world_size}; prepare more "
                "frames, or lower --frames-per-item or --workers."
            )
        return steps

    def batches(
        self, first: int, rank: int, world_size: int, device: torch.device
    ) -> Iterator[dict[str, Any]]:
        """Mosaics: item ``(step * world + rank) * items + i`` of an epoch's global order."""
        dataset, per_epoch = opened(self.data), self.steps_per_epoch(world_size)

        @lru_cache(maxsize=2)
        def order(epoch: int) -> EpochOrder:
            return EpochOrder(len(dataset), self.frames_per_item, self.seed, epoch)

        # Decoding eight frames of 384×768 takes a core longer than a step takes a fast GPU.
        readers = _GPU_READERS if device.type == "cuda" else 1

        def read(number: int) -> tuple[Frames, Plan, tuple[Tensor, Tensor]]:
            epoch, step = divmod(number, per_epoch)
            item = (step * world_size + rank) * self.items
            numbers = list(range(item, item + self.items))
            samples = dataset.samples(order(epoch)[numbers].reshape(-1).tolist())
            frames = stack_frames(samples, self.items, pin=device.type == "cuda")
            keys = [(self.seed, epoch, number) for number in numbers]
            plan = draw(frames, self.copy_paste, keys).padded(_REGIONS)
            shape = (len(plan.blur), *frames.images.shape[-2:])
            return frames, plan, draw_points(shape, self.items, keys, self.loss)

        def rendered(item: tuple[Frames, Plan, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
            frames, plan, (image, xy) = item
            mosaic = render(frames.to(device), plan)
            return {
                "images": mosaic.images,
                "regions": mosaic.regions.long(),
                "appearances": mosaic.appearances.long(),
                "transforms": mosaic.transforms,
                "image_of": mosaic.image_of,
                "point_image": move(image, device),
                "point_xy": move(xy, device),
                "pasted_fraction": (mosaic.appearances >= mosaic.rounds).float().mean(),
            }

        yield from one_ahead(rendered, prefetch(read, count(first), readers), device)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """The network's: all at one learning rate, or a slower backbone."""
        assert isinstance(model, PretrainModule)
        return model.network.parameter_groups()

    def after_step(self, model: nn.Module) -> None:
        """Prototypes go back onto the unit sphere."""
        assert isinstance(model, PretrainModule)
        model.network.normalise_prototypes()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Nothing is held out; batch statistics may be those of clean frames from here on."""
        assert isinstance(model, PretrainModule)
        if self.model.norm == "clean":
            self._clean_statistics(model.network)
        return {}

    def finish(self, model: nn.Module) -> None:
        """The backbone ends where `ModelConfig.interpolate` says."""
        assert isinstance(model, PretrainModule)
        if self.model.interpolate < 1:
            interpolate_backbone(model.network, model.started_from, self.model.interpolate)
            self._clean_statistics(model.network)

    def _clean_statistics(self, network: SegmentationNetwork) -> None:
        estimate_statistics(network, self._clean(network.prototypes.device))

    def _clean(self, device: torch.device) -> Iterator[Tensor]:
        """Frames of the dataset as they are, spread over it, a few at a time."""
        dataset = opened(self.data)
        for indices in torch.tensor(spread(len(dataset), _CLEAN)).split(self.frames_per_item):
            images = [sample.image for sample in dataset.samples(indices.tolist())]
            yield to_unit_float(move(torch.from_numpy(np.stack(images)), device))

    def alarm(self, metrics: dict[str, float], done: float) -> str:
        """Features have collapsed where every sample prefers one and the same prototype."""
        if done < 0.1 or metrics["prototypes_used"] * self.model.prototypes >= 2:
            return ""
        return (
            f"at step {metrics['step']:.0f} all samples prefer one prototype: the features have "
            "collapsed; lower --train.lr or raise --train.warmup, and run again with a new --out."
        )

    def config(self) -> dict[str, Any]:
        """Everything that rebuilds the network and repeats the run, with the dataset's hash."""
        manifest = read_manifest(self.data)
        names = ("model", "loss", "copy_paste", "frames_per_item", "items", "seed")
        plain = {name: to_plain(getattr(self, name)) for name in names}
        plain |= {"start": start_digest(self.start)} if self.start else {}
        return {**plain, "dataset": {"hash": manifest["hash"], "size": manifest["size"]}}


def draw_points(
    shape: tuple[int, ...], items: int, keys: list[tuple[int, int, int]], loss: LossConfig
) -> tuple[Tensor, Tensor]:
    """Uniform random pixels of mixed images [items * N, H, W]: pixel points, then region points.

    In each part one point of every image follows the other, so that where the last ones are left
    out no image loses more than another.

    Returns:
        int64 [P] mixed image, int64 [P, 2] (x, y).
    """
    images, height, width = shape
    per_item = images // items
    drawn: list[list[Tensor]] = [[], []]
    for number, (seed, epoch, item) in enumerate(keys):
        # Key words of their own: the compositor draws from (seed, epoch, item) as well.
        bits = np.random.Philox(np.random.SeedSequence([seed, epoch, item, 0x90]))
        generator = np.random.Generator(bits)
        for part, points in zip(drawn, (loss.pixel_points, loss.region_points), strict=True):
            n = np.repeat(np.arange(number * per_item, (number + 1) * per_item), points)
            x = generator.integers(0, width, len(n))
            y = generator.integers(0, height, len(n))
            part.append(torch.from_numpy(np.stack([n, x, y], axis=1)))
    by_image = (torch.cat(part).view(images, -1, 3) for part in drawn)
    table = torch.cat([part.transpose(0, 1).reshape(-1, 3) for part in by_image])
    return table[:, 0].contiguous(), table[:, 1:].contiguous()


def stack_frames(samples: list[Sample], items: int, pin: bool) -> Frames:
    """Samples of ``items`` items, one after the other, as the compositor's input.

    Raises:
        InputError: the frames differ in size.
    """
    sizes = {sample.image.shape[:2]: sample.frame_id for sample in samples}
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise InputError(
            f"frames {first} ({a[0]}x{a[1]}) and {second} ({b[0]}x{b[1]}) differ in size; "
            "prepare the dataset with one --size."
        )

    def stack(arrays: list[np.ndarray]) -> Tensor:
        tensor = torch.from_numpy(np.stack(arrays)).unflatten(0, (items, -1))
        return tensor.pin_memory() if pin else tensor

    return Frames(
        images=stack([s.image.transpose(2, 0, 1) for s in samples]),
        disparity=stack([s.levels for s in samples]),
        regions=stack([s.regions for s in samples]),
    )


def identity_of(settings: PretrainSettings) -> dict[str, Any]:
    """The settings by what they lead to: a digest of the weights to start from, not their place.

    Raises:
        InputError: there are no such weights.
    """
    plain = to_plain(settings)
    start = find_start(settings.model.init, settings.model.backbone)
    return plain | {"model": plain["model"] | {"init": start_digest(start) if start else ""}}


def task_of(config: PretrainConfig) -> PretrainTask:
    """The task that the workers of a pre-training run."""
    names = ("data", "model", "loss", "copy_paste", "frames_per_item", "items", "seed")
    task = PretrainTask(**{name: getattr(config, name) for name in names})
    start = find_start(config.model.init, config.model.backbone)
    model = replace(config.model, init=named_start(config.model.init, start))
    return replace(task, data=location(config.data), model=model, start=start)
