"""Cityscapes: ``cityscapes:ROOT`` with its standard tree, labelled frames and video snippets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Self

from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import Intrinsics, cityscapes_intrinsics, given_or_assumed, note
from cpcdr.frames.stored import StoredFrames, if_file, list_files, list_folders, read_stored, select
from cpcdr.runtime.errors import InputError

_IMAGE_TREES = ("leftImg8bit_sequence", "leftImg8bit")
_SUFFIXES = ("_leftimg8bit.png", "_leftimg8bit.jpg")  # in lower case: names are lowered to compare


@dataclass(frozen=True)
class CityscapesTree(StoredFrames):
    """``leftImg8bit`` and ``leftImg8bit_sequence``, with gtFine, camera and right images if there.

    A file ``aachen_000003_000019_leftImg8bit.png`` of split ``train`` is frame 19 of sequence
    ``train/aachen/000003`` in both trees, so that a labelled frame has one name, and only frames
    that were recorded one after the other are neighbours.
    """

    kind = "cityscapes"
    protocol: str = "cityscapes-19"

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> Self:
        source = super().parse(argument, options)
        if not any((source.root / tree).is_dir() for tree in _IMAGE_TREES):
            raise InputError(
                f"cityscapes:{argument} has no folder leftImg8bit/ or leftImg8bit_sequence/: give "
                f"the folder that contains it, or use images:{argument} for plain folders."
            )
        return source

    @property
    def intrinsics_note(self) -> str:
        if not (self.root / "camera").is_dir():
            return f"{note(self.options)}" + ("" if self.options.intrinsics else " (no camera/)")
        files = "camera/*_camera.json of Cityscapes, the sequence's first where a frame has none"
        return note(self.options, f"{files}; else {note(self.options)}")

    def camera_files(self) -> list[Path]:
        return sorted((self.root / "camera").rglob("*_camera.json"))

    def refs(self) -> Sequence[FrameRef]:
        refs: dict[str, FrameRef] = {}
        for tree in _IMAGE_TREES:
            for split in list_folders(self.root / tree):
                for city in list_folders(split):
                    for file in list_files(city, _SUFFIXES):
                        ref = self._ref(tree, split.name, file)
                        refs.setdefault(ref.frame_id, ref)
        if not refs:
            raise InputError(
                f"{self.root} holds no leftImg8bit/SPLIT/CITY/*_leftImg8bit.png: unpack Cityscapes "
                "there as it comes."
            )
        return select(refs.values(), self.options)

    def read(self, ref: FrameRef) -> Frame:
        file = Path(ref.path)
        city, snippet, _ = _parts(file)
        return read_stored(
            ref, self.spec, partial(self._camera, file), self.protocol, f"{city}_{snippet}_"
        )

    def _ref(self, tree: str, split: str, file: Path) -> FrameRef:
        city, snippet, number = _parts(file)
        base = f"{city}_{snippet}_{number}"
        folder = f"{split}/{file.parent.name}"
        label = self.root / "gtFine" / folder / f"{base}_gtFine_labelIds.png"
        right_tree = tree.replace("left", "right")
        right = self.root / right_tree / folder / f"{base}_rightImg8bit{file.suffix}"
        sequence = f"{folder}/{snippet}"
        return FrameRef(sequence, int(number), str(file), if_file(label), if_file(right))

    def _camera(self, file: Path, size: tuple[int, int]) -> Intrinsics:
        if not self.options.intrinsics:
            folder = self.root / "camera" / file.parent.parent.name / file.parent.name
            camera = _camera_file(folder, *_parts(file))
            if camera is not None:
                return cityscapes_intrinsics(camera, size[1])
        return given_or_assumed(self.options, size)


def _parts(file: Path) -> tuple[str, str, str]:
    """(city, snippet, frame number) of ``city_snippet_number_leftImg8bit.png``.

    Raises:
        InputError: the name has another form.
    """
    parts = file.stem.rsplit("_", 3)
    if len(parts) != 4 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise InputError(
            f"{file} is not named CITY_NUMBER_NUMBER_leftImg8bit.png: remove it from the tree."
        )
    return parts[0], parts[1], parts[2]


@lru_cache(maxsize=4096)
def _camera_file(folder: Path, city: str, snippet: str, number: str) -> Path | None:
    """The frame's camera file, else the first one of its snippet, which the same rig recorded."""
    exact = folder / f"{city}_{snippet}_{number}_camera.json"
    if exact.is_file():
        return exact
    files = list_files(folder, ("_camera.json",))
    return next((file for file in files if file.name.startswith(f"{city}_{snippet}_")), None)
