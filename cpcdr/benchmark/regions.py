"""Regions: from image and disparity, and from the cached graph."""

from __future__ import annotations

from typing import Any

from cpcdr.benchmark.timing import BenchmarkConfig, median_seconds
from cpcdr.frames import open_frames
from cpcdr.regions import RegionConfig, group, regions_of_frame, superpixel_graph
from cpcdr.regions.superpixels import superpixels


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
