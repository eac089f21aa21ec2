"""The compositor: from 8 frames to 16 mixed images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cpcdr.benchmark.timing import BenchmarkConfig, median_seconds
from cpcdr.copy_paste import CopyPasteConfig, Frames, compose
from cpcdr.frames import FrameOptions, fit, open_frames
from cpcdr.regions import RegionConfig, regions_of_frame


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
