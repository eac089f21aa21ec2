"""Copy-paste of coherent depth regions between frames, implemented as a z-buffer compositor."""

from cpcdr.copy_paste.appearance import ColourConfig
from cpcdr.copy_paste.mosaic import Frames, Key, Mosaic, Plan, compose, compose_item, draw, render
from cpcdr.copy_paste.sprites import CopyPasteConfig
from cpcdr.copy_paste.views import ViewConfig

__all__ = [
    "ColourConfig",
    "CopyPasteConfig",
    "Frames",
    "Key",
    "Mosaic",
    "Plan",
    "ViewConfig",
    "compose",
    "compose_item",
    "draw",
    "render",
]
