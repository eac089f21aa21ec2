"""Regions: from image and disparity, and from the cached graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.commands.benchmarks.timing import median_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.frames import open_frames
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import superpixel_graph
from cpcdr.regions.grouping import group, regions_of_frame
from cpcdr.regions.superpixels import ITERATIONS, superpixels

_SIZES = ((224, 448), (384, 768), (512, 1024), (1024, 2048))


def time_regions(config: BenchmarkConfig) -> dict[str, Any]:
    """Street frames of 0.1 to 2 million pixels, from image and disparity to regions.

    The floor is scikit-image's SLIC alone at 384x768, in as many iterations as ours.
    """
    rows = {}
    for height, width in _SIZES:
        row = _one_size(height, width, config)
        rows[f"{height}x{width}"] = row
        print(f"{height}x{width}: {row}", flush=True)
    main = rows["384x768"]
    floor = {"floor": "scikit-image's slic", "floor_seconds": main["scikit_image_slic"]}
    return {"seconds": main["seconds"], **floor, "sizes": rows}


def _one_size(height: int, width: int, config: BenchmarkConfig) -> dict[str, Any]:
    settings = RegionConfig()
    source = open_frames(f"synthetic:streets=1,frames=1,height={height},width={width}")
    frame = source.read(source.refs()[0])
    assert frame.disparity is not None
    arguments = (frame.image, frame.disparity, frame.intrinsics, settings)
    graph = superpixel_graph(*arguments)
    asked = settings.superpixel_count(height, width)
    slic = (frame.image, asked, settings.compactness, settings.sigma)
    seconds = {
        "seconds": median_seconds(lambda: regions_of_frame(*arguments), config),
        "slic": median_seconds(lambda: superpixels(*slic), config),
        "scikit_image_slic": median_seconds(lambda: _scikit_image(frame.image, asked), config),
        "graph": median_seconds(lambda: superpixel_graph(*arguments), config),
        "regroup": median_seconds(lambda: group(graph, settings), config),
    }
    whole = seconds["graph"] + seconds["regroup"]
    fractions = {
        "slic": seconds["slic"] / whole,
        "distances": (seconds["graph"] - seconds["slic"]) / whole,
        "grouping": seconds["regroup"] / whole,
    }
    return {
        **seconds,
        "microseconds_per_pixel": round(1e6 * seconds["seconds"] / (height * width), 3),
        "fractions": {name: round(value, 2) for name, value in fractions.items()},
        "superpixels": int(graph.superpixels.max()) + 1,
        "regions": int(group(graph, settings).max()) + 1,
    }


def _scikit_image(image: NDArray[np.uint8], count: int) -> None:
    from skimage.segmentation import slic  # slow to import

    slic(image, count, max_num_iter=ITERATIONS, sigma=1.0, start_label=0)
