"""The synthetic street: procedural driving video with exact depth, poses and labels.

The default frame source: everything runs and is tested on it without a download. From the bottom
up: `noise`, `ground`, `primitives`, `solids` and `casting` determine visibility, `textures` and
`shading` colour; `objects`, `figures`, `scenery` and `traffic` generate the world; `street` renders
a frame of it, and `source` lists and reads frames.
"""

from cpcdr.frames.synthetic.source import SyntheticStreet

__all__ = ["SyntheticStreet"]
