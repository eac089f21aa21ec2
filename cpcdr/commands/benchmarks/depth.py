"""Depth: inference through Ray Data, and a training step, beside the bare networks."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from cpcdr.commands.benchmarks.timing import median_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.depth.config import PUBLISHED, TINY, DepthConfig
from cpcdr.depth.model import DepthModel
from cpcdr.depth.source import DepthSource
from cpcdr.depth.sources import open_depth
from cpcdr.depth.street import PACKAGED, load_street_network
from cpcdr.frames import FrameSource, open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.pipeline import stream
from cpcdr.prepare.stages import TOGETHER, EstimateDepth, ReadFrames, Stage
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.train.optimizer import amp

_SKIPPED = 4  # blocks at the start that are not timed: the actors load their networks


def time_depth(config: BenchmarkConfig) -> dict[str, Any]:
    """Frames stored as images to encoded disparity on Ray Data; the floor is the bare network.

    One actor against one process: the rest of the pipeline has to fit beside it.
    """
    settings = _settings(config)
    size, blocks = (settings.height, settings.width), 4 * config.repeats + _SKIPPED
    with TemporaryDirectory() as folder:
        model = DepthModel(settings)
        depth = stored_network(Path(folder), model)
        source = stored_frames(Path(folder), size, blocks * TOGETHER)
        stages: list[Stage] = [ReadFrames(source, (0, 0)), EstimateDepth(depth)]
        prepare = PrepareConfig(workers=1, frames_per_part=TOGETHER)
        ended = []
        for _ in stream(prepare, stages, None, source.refs()):
            ended.append(time.perf_counter())
    timed = ended[_SKIPPED:]
    seconds = (timed[-1] - timed[0]) / ((len(timed) - 1) * TOGETHER)
    # Channels last, as decoded images are: convolutions on CPUs are much faster on them.
    batch = torch.rand(TOGETHER, *size, 3, device=config.device).permute(0, 3, 1, 2)
    bare = model.depth.eval().to(config.device)
    cuda = config.device == "cuda"
    # In the precision that the source infers in, or the ratio would flatter it.
    with torch.inference_mode(), torch.autocast(config.device, torch.float16, enabled=cuda):
        floor = median_seconds(lambda: bare(batch), config) / TOGETHER
    return {"seconds": round(seconds, 5), "floor_seconds": floor, "frames": blocks * TOGETHER}


def time_street(config: BenchmarkConfig) -> dict[str, Any]:
    """``--depth street`` on decoded frames of 192×640; the floor is its bare network."""
    size = (192, 640)
    with TemporaryDirectory() as folder:
        source = stored_frames(Path(folder), size, TOGETHER)
        frames = [source.read(ref) for ref in source.refs()]
    depth = open_depth("street")
    each = [frames] if config.device == "cuda" else [[frame] for frame in frames]  # as prepare does
    seconds = median_seconds(lambda: [depth(some) for some in each], config) / TOGETHER
    bare = load_street_network(PACKAGED).to(memory_format=torch.channels_last)
    bare = bare.to(config.device)
    batch = torch.rand(TOGETHER, *size, 3, device=config.device).permute(0, 3, 1, 2)
    cuda = config.device == "cuda"
    with torch.inference_mode(), torch.autocast(config.device, torch.float16, enabled=cuda):
        floor = median_seconds(lambda: bare(batch), config) / TOGETHER
    return {
        "seconds": seconds,
        "floor_seconds": floor,
        "frames_per_second": round(1 / seconds, 1),
    }


def stored_network(folder: Path, model: DepthModel) -> DepthSource:
    """The model as the depth source that a checkpoint of it in ``folder`` gives."""
    values = {"kind": "depth", "config": to_plain(model.config)}
    checkpoint = write_checkpoint(folder / "net", 1, values, model.state_dict(), {})
    return open_depth(f"network:{checkpoint}")


def stored_frames(folder: Path, size: tuple[int, int], count: int) -> FrameSource:
    """So many frames of a synthetic street as image files in ``folder``; eight differ."""
    images = folder / "images"
    images.mkdir()
    street = open_frames(f"synthetic:streets=1,frames=8,height={size[0]},width={size[1]}")
    rendered = [street.read(ref).encoded for ref in street.refs()]
    for i in range(count):
        (images / f"{i:05d}.jpg").write_bytes(rendered[i % len(rendered)])
    return open_frames(f"images:{images}")


def time_depth_step(config: BenchmarkConfig) -> dict[str, Any]:
    """Loss, backward pass included; the floor is the two networks' forward and backward alone."""
    settings = _settings(config)
    device = torch.device(config.device)
    floor, model = _on(device, DepthModel(settings)), _on(device, DepthModel(settings))
    if config.compile:
        model.compile()
    precision, _ = amp("auto", device)
    n, height, width = settings.batch_size, settings.height, settings.width
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((n, 3, 3, height, width), np.float32)).to(device)
    camera = torch.tensor([0.8 * width, 0.8 * width, width / 2, height / 2], device=device)
    batch = {
        "images": images,
        "jittered": images,
        "intrinsics": camera.repeat(n, 1),
        "flipped": torch.zeros(n, dtype=torch.bool, device=device),
    }

    def step() -> None:
        with precision:
            loss = model(batch)["loss"]
        loss.backward()
        model.zero_grad(set_to_none=True)

    def networks() -> None:
        with precision:
            disparities = floor.disparities(images[:, 1], batch["intrinsics"][:, 0])
            motion = floor.pose(images)
        total = sum(d.float().sum() for d in disparities) + motion[0].sum() + motion[1].sum()
        torch.as_tensor(total).backward()
        floor.zero_grad(set_to_none=True)

    return {
        "seconds": median_seconds(step, config),
        "floor_seconds": median_seconds(networks, config),
        "triplets": n,
        "size": [height, width],
    }


def _on(device: torch.device, model: DepthModel) -> DepthModel:
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _settings(config: BenchmarkConfig) -> DepthConfig:
    presets = {"small": replace(TINY, height=192, width=640, batch_size=2), "paper": PUBLISHED}
    return presets[config.preset]
