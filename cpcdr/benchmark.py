"""Timings beside the limit measured in the same run. None of them needs Ray or MLflow."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cpcdr.copy_paste import CopyPasteConfig, Frames, compose
from cpcdr.errors import InputError
from cpcdr.frames import FrameOptions, fit, open_frames
from cpcdr.prepare import PrepareConfig, prepare
from cpcdr.regions import RegionConfig, group, regions_of_frame, superpixel_graph
from cpcdr.regions.superpixels import superpixels
from cpcdr.tracking import TrackingConfig
from cpcdr.train.loop import amp
from cpcdr.train.pretrain import PretrainConfig
from cpcdr.train.pretrain_task import PretrainModule


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to time: the name comes first on the command line.

    Attributes:
        name: ``regions``, ``copy-paste`` or ``step``.
        repeats: timed repetitions after one warm-up; the median is reported.
        threads: CPU threads.
        device: ``cpu`` or ``cuda`` (copy-paste and step).
        preset: ``small`` or ``paper`` (step).
    """

    name: str = "copy-paste"
    repeats: int = 5
    threads: int = 1
    device: str = "cpu"
    preset: str = "small"


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Run one benchmark; the dict is what ``BENCH`` prints.

    Raises:
        InputError: an unknown name or preset, or a device that is not there.
    """
    names = {"regions": time_regions, "copy-paste": time_copy_paste, "step": time_step}
    if config.name not in names:
        raise InputError(f"benchmark '{config.name}' is unknown; choose {', '.join(names)}.")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU here; take --device cpu.")
    torch.set_num_threads(config.threads)
    measured = names[config.name](config)
    cuda = config.device == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_mib()
    ratio = measured["seconds"] / measured["floor_seconds"]
    return {
        "name": config.name,
        **measured,
        "ratio": round(ratio, 3),
        "peak_mib": round(peak),
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {config.threads} threads",
        "config": {"repeats": config.repeats, "preset": config.preset},
    }


def median_seconds(function: Callable[[], object], config: BenchmarkConfig) -> float:
    """Median wall time of a call, after one that is not counted."""
    seconds = []
    for _ in range(config.repeats + 1):
        start = time.perf_counter()
        function()
        if config.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[1:]), 5)


def time_regions(config: BenchmarkConfig) -> dict[str, Any]:
    """A 384x768 street frame from image and disparity to regions; the floor is SLIC alone."""
    settings = RegionConfig()
    rows = {}
    for size in ((192, 384), (384, 768), (512, 1024)):
        source = open_frames(f"synthetic:streets=1,frames=1,height={size[0]},width={size[1]}")
        frame = source.read(source.refs()[0])
        assert frame.disparity is not None
        arguments = (frame.image, frame.disparity, frame.intrinsics, settings)
        graph = superpixel_graph(*arguments)
        count = settings.superpixel_count(*size)
        shape = (frame.image, count, settings.compactness, settings.sigma)
        row = {
            "seconds": median_seconds(lambda a=arguments: regions_of_frame(*a), config),  # type: ignore[misc]
            "slic": median_seconds(lambda s=shape: superpixels(*s), config),  # type: ignore[misc]
            "graph": median_seconds(lambda a=arguments: superpixel_graph(*a), config),  # type: ignore[misc]
            "regroup": median_seconds(lambda g=graph: group(g, settings), config),  # type: ignore[misc]
            "regions": int(group(graph, settings).max()) + 1,
        }
        print(f"{size[0]}x{size[1]}: {row}")
        rows[f"{size[0]}x{size[1]}"] = row
    main = rows["384x768"]
    return {"seconds": main["seconds"], "floor_seconds": main["slic"], "sizes": rows}


def street_frames(size: tuple[int, int], count: int, device: str) -> Frames:
    """One item of synthetic frames with their regions."""
    source = open_frames(
        f"synthetic:streets={count},frames=1,height={size[0]},width={size[1]}", FrameOptions()
    )
    images, disparities, regions = [], [], []
    for ref in source.refs():
        frame = fit(source.read(ref), size)
        assert frame.disparity is not None
        ids, _ = regions_of_frame(frame.image, frame.disparity, frame.intrinsics, RegionConfig())
        images.append(frame.image.transpose(2, 0, 1))
        disparities.append(frame.disparity)
        regions.append(ids.astype(np.int32))
    stacked = (torch.from_numpy(np.stack(x))[None] for x in (images, disparities, regions))
    return Frames(*stacked).to(device)


def time_copy_paste(config: BenchmarkConfig) -> dict[str, Any]:
    """8 frames of 384x768 to 16 mixed images; the floor fetches every output pixel once."""
    frames = street_frames((384, 768), 8, config.device)
    settings = CopyPasteConfig()
    seconds = median_seconds(lambda: compose(frames, settings, [(0, 0, 0)]), config)
    images = frames.images[0].float().repeat(2, 1, 1, 1)
    identity = torch.eye(2, 3, device=config.device)[None].repeat(16, 1, 1)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)
    floor = median_seconds(lambda: F.grid_sample(images, grid, align_corners=False), config)
    count = sum(int(ids.max()) + 1 for ids in frames.regions[0])
    return {"seconds": seconds, "floor_seconds": floor, "regions": count}


def time_step(config: BenchmarkConfig) -> dict[str, Any]:
    """A training step from encoded rows; the floor is the network's forward and backward alone."""
    presets = PretrainConfig.presets()
    if config.preset not in presets:
        raise InputError(f"--preset '{config.preset}' is unknown; choose {' or '.join(presets)}.")
    chosen, device = presets[config.preset], torch.device(config.device)
    size = (384, 768) if config.preset == "paper" else (96, 192)
    with TemporaryDirectory() as folder:
        data = _dataset(Path(folder), size, 8 * chosen.frames_per_item)
        task = replace(chosen, data=data).task()
        module = task.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert isinstance(module, PretrainModule)
        precision, _ = amp(chosen.train.precision, device)
        epochs = iter(range(10**6))
        batches = (b for epoch in epochs for b in task.batches(epoch, 0, 0, 1, device))
        batch = next(batches)
        images = batch["images"].contiguous(memory_format=torch.channels_last)

        def network() -> None:
            with precision:
                module.network(images).float().square().sum().backward()

        def forward_backward() -> None:
            with precision:
                loss = module(batch)["loss"]
            loss.backward()

        def step() -> None:
            with precision:
                loss = module(next(batches))["loss"]
            loss.backward()
            module.zero_grad(set_to_none=True)

        return {
            "seconds": median_seconds(step, config),
            "floor_seconds": median_seconds(network, config),
            "with_loss_seconds": median_seconds(forward_backward, config),
            "data_seconds": median_seconds(lambda: next(batches), config),
            "images": len(images),
        }


def _dataset(folder: Path, size: tuple[int, int], frames: int) -> Path:
    """A small prepared dataset of the synthetic street, made in this process."""
    spec = f"synthetic:streets={frames},frames=1,height={size[0]},width={size[1]}"
    out, tracking = folder / "dataset", TrackingConfig("none")
    prepare(PrepareConfig(frames=spec, out=out, engine="local", tracking=tracking))
    return out


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
