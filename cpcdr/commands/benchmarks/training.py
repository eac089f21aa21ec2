"""A pre-training step and its parts, beside the network alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cpcdr.commands.benchmarks.timing import median_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.commands.prepare import prepare
from cpcdr.loss.swapped_prediction import copy_paste_loss
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import PretrainConfig
from cpcdr.train.optimizer import amp, make_optimizer
from cpcdr.train.pretrain_task import PretrainModule, task_of


@dataclass(frozen=True)
class _Bench:
    """A module in training mode, an endless stream of batches, and the precision to run in."""

    config: PretrainConfig
    module: PretrainModule
    batches: Iterator[dict[str, Any]]
    precision: Any

    @property
    def images(self) -> Tensor:
        return next(self.batches)["images"].contiguous(memory_format=torch.channels_last)


@contextmanager
def _bench(config: BenchmarkConfig) -> Iterator[_Bench]:
    presets = PretrainConfig.presets()
    chosen, device = presets[config.preset], torch.device(config.device)
    size = (384, 768) if config.preset == "paper" else (96, 192)
    with TemporaryDirectory() as folder:
        data = _dataset(Path(folder), size, 8 * chosen.frames_per_item)
        task = task_of(replace(chosen, data=data))
        module = task.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert isinstance(module, PretrainModule)
        batches = (b for epoch in range(10**6) for b in task.batches(epoch, 0, 0, 1, device))
        precision, _ = amp(chosen.train.precision, device)
        yield _Bench(chosen, module, batches, precision)


def time_step(config: BenchmarkConfig) -> dict[str, Any]:
    """A whole step from encoded rows; the floor is the network's forward and backward alone."""
    with _bench(config) as bench:
        module, images = bench.module, bench.images
        optimizer = make_optimizer([{"params": list(module.parameters())}], bench.config.train)
        for group in optimizer.param_groups:
            group["lr"] = 1e-6

        def network() -> None:
            with bench.precision:
                module.network(images).float().square().sum().backward()

        def step() -> None:
            with bench.precision:
                loss = module(next(bench.batches))["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        seconds = median_seconds(step, config)
        return {
            "seconds": seconds,
            "floor_seconds": median_seconds(network, config),
            "data_seconds": median_seconds(lambda: next(bench.batches), config),
            "images": len(images),
        }


def time_loss(config: BenchmarkConfig) -> dict[str, Any]:
    """Sampling, Sinkhorn and swapped prediction, forward; the floor is the bare matrix product."""
    with _bench(config) as bench:
        batch = next(bench.batches)
        with torch.no_grad(), bench.precision:
            features = bench.module.network(batch["images"]).float()
        prototypes = bench.module.network.prototypes
        points = (batch["point_image"], batch["point_xy"])
        settings = bench.config.loss
        picked = torch.randn(len(batch["point_image"]), features.shape[1], device=features.device)

        def forward() -> None:
            with torch.no_grad():
                copy_paste_loss(features, prototypes, batch, points, settings)

        def both() -> None:
            leaf = features.detach().requires_grad_()
            copy_paste_loss(leaf, prototypes, batch, points, settings)["loss"].backward()

        return {
            "seconds": median_seconds(forward, config),
            "floor_seconds": median_seconds(lambda: picked @ prototypes.detach().T, config),
            "with_backward_seconds": median_seconds(both, config),
            "points": len(picked),
            "prototypes": len(prototypes),
        }


def time_ingest(config: BenchmarkConfig) -> dict[str, Any]:
    """Encoded rows to composed batches, read ahead; the floor is the network that consumes them."""
    with _bench(config) as bench:
        images = bench.images

        def network() -> None:
            with bench.precision:
                bench.module.network(images).float().square().sum().backward()

        return {
            "seconds": median_seconds(lambda: next(bench.batches), config),
            "floor_seconds": median_seconds(network, config),
            "images": len(images),
        }


def _dataset(folder: Path, size: tuple[int, int], frames: int) -> Path:
    """A small prepared dataset of the synthetic street, made in this process."""
    spec = f"synthetic:streets={frames},frames=1,height={size[0]},width={size[1]}"
    out, tracking = folder / "dataset", TrackingConfig("none")
    prepare(PrepareConfig(frames=spec, out=out, engine="local", tracking=tracking))
    return out
