"""Coherent depth regions of a frame: superpixels, their 3D adjacency graph, map-equation clustering
and bottom-up grouping."""

from cpcdr.regions.graph import RegionConfig, SuperpixelGraph, superpixel_graph
from cpcdr.regions.grouping import group, regions_of_frame

__all__ = ["RegionConfig", "SuperpixelGraph", "group", "regions_of_frame", "superpixel_graph"]
