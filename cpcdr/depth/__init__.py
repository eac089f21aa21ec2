"""Depth from one image, learned from video alone, and every other place depth may come from."""

from cpcdr.depth.metrics import DepthErrors, depth_errors, mean_errors
from cpcdr.depth.sources import DepthSource, load_depth_network, open_depth
from cpcdr.depth.task import TINY, DepthConfig, DepthTask

__all__ = [
    "TINY",
    "DepthConfig",
    "DepthErrors",
    "DepthSource",
    "DepthTask",
    "depth_errors",
    "load_depth_network",
    "mean_errors",
    "open_depth",
]
