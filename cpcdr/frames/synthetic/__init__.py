"""The synthetic street: driving video out of nothing, with exact depth, poses and labels.

The default source of frames: everything runs, is tested and is compared on it, with no download.
From the bottom up: `noise`, `ground`, `primitives`, `solids` and `casting` find what is seen,
`textures` and `shading` its colour; `objects`, `figures`, `scenery` and `traffic` invent the world;
`street` renders a frame of it and `source` lists and reads frames.
"""

from cpcdr.frames.synthetic.source import SyntheticStreet

__all__ = ["SyntheticStreet"]
