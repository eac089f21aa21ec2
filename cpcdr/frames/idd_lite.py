"""IDD-Lite: ``idd-lite:ROOT`` with its tree as it comes, and a split of its labelled drives.

Source: G. Varma et al., "IDD: A Dataset for Exploring Problems of Autonomous Navigation in
Unconstrained Environments", WACV 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import given_or_assumed
from cpcdr.frames.stored import (
    StoredFrames,
    frame_number,
    if_file,
    list_files,
    list_folders,
    read_stored,
    select,
)
from cpcdr.runtime.errors import InputError

_IMAGE, _LABEL = "_image", "_label.png"
DRIVES = {"train": range(7), "dev": range(7, 8), "test": range(8, 10)}
"""Tenths of the labelled drives, by the hash of their name."""
_CHOICES = (*DRIVES, "unlabelled", "all")


@dataclass(frozen=True)
class IddLite(StoredFrames):
    """``leftImg8bit/SPLIT/DRIVE/N_image.jpg`` and ``gtFine/SPLIT/DRIVE/N_label.png``.

    After ``,drives=`` in the spec, ``train``, ``dev`` or ``test`` keeps 70, 10 or 20 % of the
    drives with labels, always the same ones, and ``unlabelled`` the others. Frames keep their
    numbers in the drive, which are far apart: this is no video.
    """

    kind = "idd-lite"
    holds = ("leftImg8bit",)
    remedy = "give the folder that contains leftImg8bit/ and gtFine/"
    protocol: str = "idd-lite-7"
    drives: str = "all"

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> Self:
        root, _, drives = argument.partition(",drives=")
        if (drives or "all") not in _CHOICES:
            raise InputError(
                f"idd-lite:{argument}: drives={drives} is unknown; give {', '.join(_CHOICES)}."
            )
        source: Any = super().parse(root, options)
        spec = f"{source.spec},drives={drives}" if drives else source.spec
        protocol = "" if drives == "unlabelled" else cls.protocol
        return cls(spec, source.root, options, protocol, drives or "all")

    def refs(self) -> Sequence[FrameRef]:
        refs = [
            FrameRef(
                f"{split.name}/{drive.name}",
                frame_number(file.stem, i),
                str(file),
                self._label(split, drive, file),
            )
            for split in list_folders(self.root / "leftImg8bit")
            for drive in list_folders(split)
            for i, file in enumerate(list_files(drive))
            if file.stem.endswith(_IMAGE)
        ]
        kept = [ref for ref in refs if self._wanted(ref)]
        if not kept:
            raise InputError(
                f"{self.spec} keeps none of {len(refs)} images leftImg8bit/SPLIT/DRIVE/N_image.jpg"
                ": unpack IDD-Lite there as it comes, or give other drives."
            )
        return select(kept, self.options)

    def read(self, ref: FrameRef) -> Frame:
        camera = partial(given_or_assumed, self.options)
        return read_stored(ref, self.spec, camera, self.protocol)

    def _label(self, split: Path, drive: Path, file: Path) -> str:
        name = file.stem.removesuffix(_IMAGE) + _LABEL
        return if_file(self.root / "gtFine" / split.name / drive.name / name)

    def _wanted(self, ref: FrameRef) -> bool:
        if self.drives == "all":
            return True
        if self.drives == "unlabelled" or not ref.label_path:
            return self.drives == "unlabelled" and not ref.label_path
        return tenth(ref.sequence) in DRIVES[self.drives]


def tenth(drive: str) -> int:
    """The part, 0 to 9, of a drive ``SPLIT/NAME``, which does not depend on the other drives.

    >>> tenth("train/0"), tenth("train/472")
    (1, 0)
    """
    return int(sha256(drive.encode()).hexdigest(), 16) % 10
