"""Frames into coherent depth regions: superpixels, their graph in 3D, map-equation clustering,
bottom-up grouping."""

from cpcdr.regions.graph import RegionConfig, SuperpixelGraph, superpixel_graph
from cpcdr.regions.grouping import group, regions_of_frame

__all__ = ["RegionConfig", "SuperpixelGraph", "group", "regions_of_frame", "superpixel_graph"]
