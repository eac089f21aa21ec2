"""The released code's layout: ``rgb/``, ``disp/`` and ``region/`` trees of PNG files, 16 bits deep.

Export writes one from a dataset. A tree is imported by preparing its images with its disparity and
its regions: ``cpcdr prepare --frames images:TREE/rgb --depth precomputed:TREE --region-maps TREE``.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.depth.precomputed import tree_names
from cpcdr.frames import Frame
from cpcdr.frames.resize import cover_and_crop
from cpcdr.maps import decode_png16
from cpcdr.runtime.errors import FrameError, InputError


def read_region_map(root: Path, frame: Frame) -> NDArray[np.uint16]:
    """Regions of a frame from a tree, uint16 [H, W] of the frame's size, ids 0..R-1.

    Raises:
        FrameError: there is no such file, or it is no 16-bit PNG.
    """
    paths = [folder / name for name in tree_names(frame.ref) for folder in (root / "region", root)]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise FrameError(f"{paths[0]} is missing: give the regions of every frame.", "regions")
    stored = decode_png16(path.read_bytes())
    if stored is None:
        raise FrameError(f"{path} is not a 16-bit grey PNG: remake it.", "regions")
    ids = cover_and_crop(stored, frame.image.shape, cv2.INTER_NEAREST_EXACT)
    return np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.uint16)


def check_region_maps(root: Path) -> Path:
    """The absolute folder of region maps.

    Raises:
        InputError: it does not exist.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder; give the one that contains region/.")
    return root.absolute()
