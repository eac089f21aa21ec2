"""Label protocols by name: which classes a number is about, and how label files map to them.

A published mIoU means little without its protocol: 19 or 27 classes alone moves a Cityscapes
result from 21.8 to 15.3. Therefore every label map becomes *train ids* here, in one place, and
every number is printed with its protocol's name.

Sources: the public Cityscapes label definitions (label id, train id, colour), shared by KITTI's
semantic benchmark; CamVid in the common 11 classes; the seven of IDD-Lite; the 27 classes and
320-pixel centre crop of unsupervised segmentation (PiCIE, Cho et al., CVPR 2021, and its
successors).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import IGNORE
from cpcdr.runtime.errors import FrameError, InputError

_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Protocol:
    """A set of classes and the way label files map to them.

    Attributes:
        name: what is printed with every number, such as ``cityscapes-19``.
        label_ids: the numbering of the label files that it reads: ``cityscapes``, ``camvid``,
            ``idd-lite`` or ``synthetic``. A source can be read under any protocol of its numbering.
        classes: names of the K classes; the position is the train id.
        colours: uint8 [K, 3] RGB, one colour a class, for figures.
        mapping: int16 [256] label id of a file -> train id; 255 = ignore, -1 = no such label.
        crop: side in pixels of the square that is evaluated: the shorter side is resized to it
            and the centre cropped (``fit(frame, (crop, crop))``); 0 = the protocol prescribes no
            size, see `evaluation_size`.
    """

    name: str
    label_ids: str
    classes: tuple[str, ...]
    colours: NDArray[np.uint8]
    mapping: NDArray[np.int16]
    crop: int = 0

    def train_ids(self, label_ids: NDArray[np.integer], path: str) -> NDArray[np.uint8]:
        """Train ids of a label map of integers [H, W], as in the file ``path``.

        Returns:
            uint8 [H, W] train ids, 255 = ignore.

        Raises:
            FrameError: the map holds an id that the label definition does not have.
        """
        outside = (label_ids < 0) | (label_ids > 255)
        ids = np.where(outside, 0, label_ids) if outside.any() else label_ids
        train_ids = self.mapping[ids]
        unknown = outside | (train_ids == _UNKNOWN)
        if unknown.any():
            ids_text = ", ".join(str(i) for i in np.unique(label_ids[unknown])[:8])
            raise FrameError(
                f"{path} holds label ids {ids_text}, which {self.label_ids} labels do not have "
                f"(protocol {self.name}): give the label-id file, not colours or train ids."
            )
        return train_ids.astype(np.uint8)


# (label id, train id of the 19-class protocol, name, colour); ids 0..6 and 255 are never classes.
_CITYSCAPES: tuple[tuple[int, int, str, tuple[int, int, int]], ...] = (
    (7, 0, "road", (128, 64, 128)),
    (8, 1, "sidewalk", (244, 35, 232)),
    (9, IGNORE, "parking", (250, 170, 160)),
    (10, IGNORE, "rail track", (230, 150, 140)),
    (11, 2, "building", (70, 70, 70)),
    (12, 3, "wall", (102, 102, 156)),
    (13, 4, "fence", (190, 153, 153)),
    (14, IGNORE, "guard rail", (180, 165, 180)),
    (15, IGNORE, "bridge", (150, 100, 100)),
    (16, IGNORE, "tunnel", (150, 120, 90)),
    (17, 5, "pole", (153, 153, 153)),
    (18, IGNORE, "polegroup", (153, 153, 153)),
    (19, 6, "traffic light", (250, 170, 30)),
    (20, 7, "traffic sign", (220, 220, 0)),
    (21, 8, "vegetation", (107, 142, 35)),
    (22, 9, "terrain", (152, 251, 152)),
    (23, 10, "sky", (70, 130, 180)),
    (24, 11, "person", (220, 20, 60)),
    (25, 12, "rider", (255, 0, 0)),
    (26, 13, "car", (0, 0, 142)),
    (27, 14, "truck", (0, 0, 70)),
    (28, 15, "bus", (0, 60, 100)),
    (29, IGNORE, "caravan", (0, 0, 90)),
    (30, IGNORE, "trailer", (0, 0, 110)),
    (31, 16, "train", (0, 80, 100)),
    (32, 17, "motorcycle", (0, 0, 230)),
    (33, 18, "bicycle", (119, 11, 32)),
)

_CAMVID: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("sidewalk", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("cyclist", (0, 128, 192)),
)
_CAMVID_VOID = 11

_IDD_LITE: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("drivable", (128, 64, 128)),
    ("non-drivable", (244, 35, 232)),
    ("living thing", (220, 20, 60)),
    ("vehicle", (0, 0, 142)),
    ("roadside object", (220, 190, 40)),
    ("far object", (107, 142, 35)),
    ("sky", (70, 130, 180)),
)

_CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car",),
}


Row = tuple[str, tuple[int, int, int], Iterable[int]]
"""A class: its name, colour, and the label ids that are of it."""


def _protocol(
    name: str, label_ids: str, rows: Sequence[Row], ignored: Iterable[int] = (), crop: int = 0
) -> Protocol:
    """A protocol whose train ids are the positions in ``rows``; 255 is always ignored."""
    colours = np.array([colour for _, colour, _ in rows], np.uint8)
    mapping = np.full(256, _UNKNOWN, np.int16)
    mapping[[*ignored, IGNORE]] = IGNORE
    for train_id, (_, _, ids) in enumerate(rows):
        mapping[list(ids)] = train_id
    for array in (colours, mapping):
        array.setflags(write=False)
    return Protocol(name, label_ids, tuple(row[0] for row in rows), colours, mapping, crop)


_ALL: list[Row] = [(name, colour, [label_id]) for label_id, _, name, colour in _CITYSCAPES]
_OFFICIAL: list[Row] = [(row[2], row[3], [row[0]]) for row in _CITYSCAPES if row[1] != IGNORE]
_STREET: list[Row] = [(name, colour, [i]) for i, (name, colour, _) in enumerate(_OFFICIAL[:14])]
"""The synthetic street's labels are the first 14 train ids of Cityscapes."""
_BY_CLASS = {name: (colour, ids) for name, colour, ids in _STREET}
_COARSE: list[Row] = [
    (category, _BY_CLASS[members[0]][0], [i for name in members for i in _BY_CLASS[name][1]])
    for category, members in _CATEGORIES.items()
]
"""The official Cityscapes categories: what can be told apart in a frame 200 pixels wide."""
_CAMVID_ROWS: list[Row] = [(name, colour, [i]) for i, (name, colour) in enumerate(_CAMVID)]
_IDD_LITE_ROWS: list[Row] = [(n, colour, [i]) for i, (n, colour) in enumerate(_IDD_LITE)]
_NO_CLASS = {*range(7), *(label_id for label_id, train_id, *_ in _CITYSCAPES if train_id == IGNORE)}

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _protocol("cityscapes-19", "cityscapes", _OFFICIAL, _NO_CLASS),
        _protocol("cityscapes-27", "cityscapes", _ALL, range(7), crop=320),
        _protocol("kitti-19", "cityscapes", _OFFICIAL, _NO_CLASS),
        _protocol("camvid-11", "camvid", _CAMVID_ROWS, [_CAMVID_VOID]),
        _protocol("idd-lite-7", "idd-lite", _IDD_LITE_ROWS),
        _protocol("synthetic", "synthetic", _COARSE),
        _protocol("synthetic-14", "synthetic", _STREET),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        InputError: there is none; the sentence lists the names.

    >>> get_protocol("camvid-11").classes[:3]
    ('sky', 'building', 'pole')
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    close = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise InputError(f"There is no protocol {name!r}: give one of {', '.join(PROTOCOLS)}.{hint}")


def evaluation_size(
    protocol: Protocol | None,
    asked: tuple[int, int],
    trained: tuple[int, int],
    option: str = "--size",
) -> tuple[int, int]:
    """Height and width at which frames are evaluated.

    A protocol with a crop prescribes it, because its published numbers are of that size. The
    others, and frames without labels, take the size that is asked for, else that of the training.

    Args:
        protocol: None without labels.
        asked: what the user gave; 0 0 = nothing.
        trained: the size of whole frames at the scale of the training.

    Raises:
        InputError: another size than the protocol's own is asked for.

    >>> evaluation_size(get_protocol("camvid-11"), (0, 0), (96, 128))
    (96, 128)
    >>> evaluation_size(get_protocol("cityscapes-27"), (0, 0), (96, 128))
    (320, 320)
    """
    if protocol is None or not protocol.crop:
        return asked if any(asked) else trained
    own = (protocol.crop, protocol.crop)
    if any(asked) and tuple(asked) != own:
        raise InputError(
            f"{option} {asked[0]} {asked[1]}: protocol {protocol.name} is evaluated on its centre "
            f"crop of {own[0]}×{own[1]} pixels; leave {option} out, or take a protocol of any size."
        )
    return own
