"""The compositor: from 8 frames to 16 mixed images."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cpcdr.commands.benchmarks.timing import median_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, draw, render
from cpcdr.frames import FrameOptions, fit, open_frames
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.grouping import regions_of_frame

FINE = replace(RegionConfig.presets()["paper"], separation=0.085, gain=80.0)
"""Thresholds that leave about 1 800 regions in eight synthetic streets of 384x768."""


def street_frames(size: tuple[int, int], count: int, regions: RegionConfig) -> Frames:
    """One item of synthetic frames with their regions."""
    source = open_frames(
        f"synthetic:streets={count},frames=1,height={size[0]},width={size[1]}", FrameOptions()
    )
    images, disparities, ids = [], [], []
    for ref in source.refs():
        frame = fit(source.read(ref), size)
        assert frame.disparity is not None
        found, _ = regions_of_frame(frame.image, frame.disparity, frame.intrinsics, regions)
        images.append(frame.image.transpose(2, 0, 1))
        disparities.append(frame.disparity)
        ids.append(found.astype(np.int32))
    return Frames(*(torch.from_numpy(np.stack(x))[None] for x in (images, disparities, ids)))


def time_copy_paste(config: BenchmarkConfig) -> dict[str, Any]:
    """8 frames of 384x768 to 16 mixed images; the floor fetches every output pixel once.

    ``draw_seconds`` pass on the host, in training while the device works on the step before.
    """
    frames, settings = street_frames((384, 768), 8, FINE), CopyPasteConfig()
    plan = draw(frames, settings, [(0, 0, 0)])
    there = frames.to(config.device)
    images = there.images[0].float().repeat(2, 1, 1, 1)
    identity = torch.eye(2, 3, device=config.device)[None].repeat(16, 1, 1)
    grid = F.affine_grid(identity, list(images.shape), align_corners=False)

    def whole() -> None:
        render(frames.to(config.device), draw(frames, settings, [(0, 0, 0)]))

    return {
        "seconds": median_seconds(whole, config),
        "floor_seconds": median_seconds(
            lambda: F.grid_sample(images, grid, align_corners=False), config
        ),
        "draw_seconds": median_seconds(lambda: draw(frames, settings, [(0, 0, 0)]), config),
        "render_seconds": median_seconds(lambda: render(there, plan), config),
        "regions": len(plan.frame_of),
        "sprites": len(plan.sprites.image),
        "pasted_fraction": round(render(there, plan).pasted_fraction, 3),
    }
