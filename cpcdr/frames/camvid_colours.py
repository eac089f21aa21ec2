"""CamVid's original label maps: pictures in the colours of 32 classes, to ids of the 11 in use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import read_colours_or_ids
from cpcdr.runtime.errors import FrameError

# The 32 colours of CamVid's label_colors.txt in the groups that all published 11-class results use
# (Badrinarayanan et al., SegNet); the position is the id.
_GROUPS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((128, 128, 128),),  # sky
    # archway, bridge, building, tunnel, wall
    ((192, 0, 128), (0, 128, 64), (128, 0, 0), (64, 0, 64), (64, 192, 0)),
    ((192, 192, 128), (0, 0, 64)),  # column or pole, traffic cone
    ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # road, lane markings to drive on and others
    ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # sidewalk, parking block, road shoulder
    ((128, 128, 0), (192, 192, 0)),  # tree, other vegetation
    ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # sign or symbol, text, traffic light
    ((64, 64, 128),),  # fence
    # car, SUV or pick-up, truck or bus, train, other moving
    ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),  # pedestrian, child, cart, animal
    ((0, 128, 192), (192, 0, 192)),  # bicyclist, motorcycle or scooter
    ((0, 0, 0),),  # void
)
_IDS = {colour: place for place, group in enumerate(_GROUPS) for colour in group}


def read_camvid_labels(path: str) -> NDArray[np.integer]:
    """Label ids 0..11 [H, W] of a CamVid label file, of ids or of colours.

    Raises:
        FrameError: the file is missing or broken, or has a colour that no class has.
    """
    stored = read_colours_or_ids(path)
    if stored.ndim == 2:
        return stored
    packed = (stored[..., :3].astype(np.int64) << (16, 8, 0)).sum(-1)
    colours, inverse = np.unique(packed, return_inverse=True)
    ids = []
    for colour in colours.tolist():
        rgb = (colour >> 16, colour >> 8 & 255, colour & 255)
        if rgb not in _IDS:
            raise FrameError(
                f"{path} has pixels of colour {rgb}, which none of CamVid's 32 classes has: give "
                "the original label file, not one that was resized or saved as JPEG."
            )
        ids.append(_IDS[rgb])
    return np.array(ids, np.int32)[inverse].reshape(packed.shape)
