"""A pre-training step part by part: counted on tensors without values, timed on a GPU."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cpcdr.commands.benchmarks.count import Count, Device, Part
from cpcdr.commands.benchmarks.timing import wait_for
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.copy_paste.mosaic import Frames, Plan, draw, render
from cpcdr.loss.swapped_prediction import copy_paste_loss
from cpcdr.train.config import PretrainConfig
from cpcdr.train.optimizer import amp, make_optimizer
from cpcdr.train.pretrain_task import PretrainModule, draw_points

META = torch.device("meta")


@dataclass(frozen=True, eq=False)
class Step:
    """Everything that a step on one item needs, on a device; ``precision`` as training has it."""

    config: PretrainConfig
    module: PretrainModule
    frames: Frames
    plan: Plan
    points: tuple[Tensor, Tensor]
    optimizer: torch.optim.Optimizer
    precision: AbstractContextManager[Any]
    images: torch.dtype = torch.float32

    def run(self, part: Callable[[str], AbstractContextManager[None]]) -> None:
        """The step, each part of it in a context of its name."""
        network = self.module.network
        with part("compositor"):
            mosaic = render(self.frames, self.plan)
            maps = {
                "regions": mosaic.regions.long(),
                "appearances": mosaic.appearances.long(),
                "transforms": mosaic.transforms,
                "image_of": mosaic.image_of,
            }
        with part("network forward"), self.precision:
            images = mosaic.images.to(self.images, memory_format=torch.channels_last)
            features = network(images)
        # As cuDNN lays features out, where one of its convolutions ends the network.
        leaf = features.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        with part("loss forward"):
            loss = copy_paste_loss(leaf, network.prototypes, maps, self.points, self.config.loss)
        with part("loss backward"):
            loss["loss"].backward()
        assert leaf.grad is not None
        with part("network backward"):
            features.backward(leaf.grad)
        with part("optimiser"):
            self.optimizer.step()
            network.normalise_prototypes()
        self.optimizer.zero_grad(set_to_none=True)


def step_of(config: PretrainConfig, size: tuple[int, int], device: torch.device) -> Step:
    """A step on frames of ``size`` with a grid of 12 x 16 regions; on ``meta`` as on a GPU."""
    frames, keys = _frames(config.frames_per_item, size), [(0, 0, 0)]
    plan = draw(frames, config.copy_paste, keys)
    image, xy = (p.to(device) for p in draw_points((len(plan.blur), *size), 1, keys, config.loss))
    with device:
        module = PretrainModule(config.model, config.loss)
    network = module.network.to(memory_format=torch.channels_last)
    counted, images = device == META, torch.float32
    precision: AbstractContextManager[Any] = nullcontext()
    if not counted:
        precision, _ = amp(config.train.precision, device)
    elif config.train.precision == "auto":  # autocast does not work here: the weights themselves
        images = torch.bfloat16
        for part in (network.backbone, network.pyramid, network.head, network.projector):
            part.to(images)
    optimizer = make_optimizer([{"params": list(module.parameters())}], config.train)
    for group in optimizer.param_groups if counted else ():
        group["foreach"] = True  # as many operations as the fused one has kernels, or more
    return Step(
        config,
        module,
        frames.to(device),
        plan.to(device) if counted else plan,
        (image, xy),
        optimizer,
        precision,
        images,
    )


def count_step(config: PretrainConfig, size: tuple[int, int], device: Device) -> dict[str, Part]:
    """A step on one item of frames of ``size``, by part: any but the first, which makes momenta."""
    step, count = step_of(config, size, META), Count(device)
    step.run(lambda _: nullcontext())
    step.run(count.part)
    return count.parts


def time_parts(
    config: PretrainConfig, size: tuple[int, int], device: torch.device, repeats: int
) -> dict[str, float]:
    """Median seconds of each part of a step, each waited for, after one step that warms up."""
    step, seconds = step_of(config, size, device), defaultdict[str, list[float]](list)

    @contextmanager
    def part(name: str) -> Iterator[None]:
        wait_for(device)
        start = time.perf_counter()
        yield
        wait_for(device)
        seconds[name].append(time.perf_counter() - start)

    for _ in range(repeats + 1):
        step.run(part)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def _frames(count: int, size: tuple[int, int]) -> Frames:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, count, 3, *size), dtype=torch.uint8, generator=generator)
    rows = torch.arange(size[0]) * 12 // size[0]
    columns = torch.arange(size[1]) * 16 // size[1]
    regions = (rows[:, None] * 16 + columns).expand(1, count, *size)
    levels = 65535 * torch.rand(1, count, *size, generator=generator)
    return Frames(images, levels.to(torch.uint16), regions.to(torch.uint16).contiguous())


def counted_step(config: BenchmarkConfig) -> dict[str, Any]:
    """The count of a preset's step, printed by part; the floor is the network alone.

    With ``--device cuda`` what each part takes on this GPU stands beside it.
    """
    preset = PretrainConfig.presets()[config.preset]
    size = (384, 768) if config.preset == "paper" else (96, 192)
    parts = count_step(preset, size, Device(config.bandwidth * 1e9, config.launch * 1e-6))
    measured: dict[str, float] = {}
    if config.device == "cuda":
        measured = time_parts(preset, size, torch.device("cuda"), config.repeats)
    print(f"{'part':18} {'kernels':>8} {'GB':>8} {'ms':>8}" + " measured ms" * bool(measured))
    for name, part in parts.items():
        line = f"{name:18} {part.kernels:8} {part.bytes / 1e9:8.3f} {1e3 * part.seconds:8.3f}"
        print(line + (f" {1e3 * measured[name]:11.3f}" if measured else ""))
    floor = sum(part.seconds for name, part in parts.items() if name.startswith("network"))
    by_part = {name: round(seconds, 5) for name, seconds in measured.items()}
    return {
        **({"measured_seconds": by_part} if measured else {}),
        "seconds": round(sum(part.seconds for part in parts.values()), 5),
        "floor_seconds": round(floor, 5),
        "kernels": sum(part.kernels for part in parts.values()),
        "gigabytes": round(sum(part.bytes for part in parts.values()) / 1e9, 3),
    }
