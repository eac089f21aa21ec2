"""A pre-training step and its parts, beside the network alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cpcdr.commands.benchmarks.preparation import street_dataset
from cpcdr.commands.benchmarks.timing import median_seconds, steady_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.loss.swapped_prediction import copy_paste_loss
from cpcdr.train.compiling import compile_module
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

    def network(self, images: Tensor) -> None:
        """The network's forward and backward pass alone."""
        self.module.zero_grad(set_to_none=True)
        with self.precision:
            self.module.network(images).float().square().sum().backward()


@contextmanager
def _bench(config: BenchmarkConfig) -> Iterator[_Bench]:
    preset, device = PretrainConfig.presets()[config.preset], torch.device(config.device)
    size = (384, 768) if config.preset == "paper" else (96, 192)
    with TemporaryDirectory() as folder:
        frames = f"streets={8 * preset.frames_per_item},frames=1"
        spec = f"synthetic:{frames},height={size[0]},width={size[1]}"
        task = task_of(replace(preset, data=street_dataset(Path(folder), spec, size)))
        module = task.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert isinstance(module, PretrainModule)
        batches = task.batches(0, 0, 1, device)
        precision, _ = amp(preset.train.precision, device)
        yield _Bench(preset, module, batches, precision)


def time_step(config: BenchmarkConfig) -> dict[str, Any]:
    """A whole step from encoded rows; the floor is the network's forward and backward alone."""
    with _bench(config) as bench:
        module, images = bench.module, bench.images
        compile_module(module, "yes" if config.compile else "no", torch.device(config.device))
        optimizer = make_optimizer([{"params": list(module.parameters())}], bench.config.train)
        for group in optimizer.param_groups:
            group["lr"] = 1e-6

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with bench.precision:
                loss = module(next(bench.batches))["loss"]
            loss.backward()
            optimizer.step()

        seconds = steady_seconds(step, config)
        return {
            "seconds": seconds,
            "floor_seconds": steady_seconds(lambda: bench.network(images), config),
            "data_seconds": steady_seconds(lambda: next(bench.batches), config),
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
        return {
            "seconds": steady_seconds(lambda: next(bench.batches), config),
            "floor_seconds": steady_seconds(lambda: bench.network(images), config),
            "images": len(images),
        }
