"""Folders of images, with label maps for CamVid: ``images:FOLDER`` and ``camvid:FOLDER``."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.decode import read_colours_or_ids
from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.frames.intrinsics import given_or_assumed
from cpcdr.frames.stored import (
    IMAGE_SUFFIXES,
    StoredFrames,
    frame_indices,
    list_files,
    passed_over,
    read_stored,
    select,
    walk_files,
)
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.names import readable

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


class ImageFolders(StoredFrames):
    """Every folder with images below ``root`` is a sequence, its files in natural order.

    Sequences are named after the root folder and the path below it (``drives/monday``).
    """

    kind = "images"

    def refs(self) -> Sequence[FrameRef]:
        refs = []
        for folder, files in walk_files(self.root, IMAGE_SUFFIXES).items():
            sequence = readable(Path(self.root.name) / folder.relative_to(self.root))
            paths = [readable(file) for file in files]
            indices = frame_indices([file.stem for file in files])
            refs += [FrameRef(sequence, i, path) for i, path in zip(indices, paths, strict=True)]
        if not refs:
            raise InputError(
                f"{self.spec} holds no image ({' '.join(IMAGE_SUFFIXES)}): give the folder that "
                "contains the frames."
            )
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        return read_stored(ref, self.spec, partial(given_or_assumed, self.options))

    def notes(self) -> list[str]:
        """Which files are passed over."""
        every, used = (
            [f for files in walk_files(self.root, suffixes).values() for f in files]
            for suffixes in (("",), IMAGE_SUFFIXES)
        )
        return passed_over(every, used, "image")


@dataclass(frozen=True)
class CamVidFolder(StoredFrames):
    """CamVid's ``images/`` and ``labels/``, paired by file stem.

    Labels are ids 0..10 with 11 = void, or the original colour maps of 32 classes, ``*_L.png``.

    Files of several drives share a folder: what precedes the last ``_`` names the sequence
    (``0016E5``). Indices count the drive's usual step between file numbers, so that lost files
    leave gaps. The labelled training set is sampled at 1 Hz: its neighbouring frames are too far
    apart for photometric depth training, though their indices are consecutive.
    """

    kind = "camvid"
    holds = ("images", "labels")
    remedy = (
        "give the folder that contains images/ and labels/, or use images:{argument} for frames "
        "without labels"
    )
    protocol: str = "camvid-11"

    def refs(self) -> Sequence[FrameRef]:
        drives: dict[str, list[Path]] = defaultdict(list)
        for file in list_files(self.root / "images"):
            drives[_drive(file) or self.root.name].append(file)
        # The original colour maps are named 0016E5_07959_L.png.
        labels = {f.stem.removesuffix("_L"): str(f) for f in list_files(self.root / "labels")}
        refs = []
        for drive, files in drives.items():
            indices = frame_indices([file.stem for file in files])
            refs += [
                FrameRef(drive, i, str(f), labels.get(f.stem, ""))
                for i, f in zip(indices, files, strict=True)
            ]
        if not refs:
            raise InputError(f"{self.root / 'images'} holds no image: put CamVid's frames there.")
        return select(refs, self.options)

    def read(self, ref: FrameRef) -> Frame:
        drive = _drive(Path(ref.path))
        return read_stored(
            ref,
            self.spec,
            partial(given_or_assumed, self.options),
            self.protocol,
            f"{drive}_" if drive else "",
            read_camvid_labels,
        )


def _drive(file: Path) -> str:
    """``0016E5`` of ``0016E5_07959.png``, empty for a name without ``_``."""
    return file.stem.rpartition("_")[0]


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
