"""Coherent depth regions of a frame: superpixels, their 3D adjacency graph, map-equation clustering
and bottom-up grouping."""
