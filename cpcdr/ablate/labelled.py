"""Labelled frames of one size on disk: read once from their source, memory-mapped by trials."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpcdr.evaluate.score_networks import labelled_frame
from cpcdr.frames import FrameSource, Protocol, get_protocol
from cpcdr.frames.pick import spread
from cpcdr.runtime.errors import FrameError, InputError, first_line
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.strict_json import read_json, write_json


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """F frames, memory-mapped: a frame is loaded when it is used.

    Attributes:
        images: uint8 [F, H, W, 3] RGB.
        labels: uint8 [F, H, W] train ids of the protocol, 255 = ignore.
        reason: of the first one left out.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    protocol: Protocol
    left_out: int = 0
    reason: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Each image [H, W, 3] with its labels [H, W]."""
        return zip(self.images, self.labels, strict=True)

    def absent_classes(self) -> list[str]:
        """Names of the classes without a labelled pixel."""
        pixels = np.zeros(256, np.int64)
        for labels in self.labels:
            pixels += np.bincount(labels.ravel(), minlength=256)
        return [name for k, name in enumerate(self.protocol.classes) if not pixels[k]]


def store_frames(source: FrameSource, size: tuple[int, int], folder: Path, limit: int = 0) -> None:
    """Write the labelled frames of a source; does nothing if the folder is finished.

    Args:
        folder: for ``images.npy``, ``labels.npy`` and ``frames.json``.
        limit: number of evenly spaced frames to keep; 0 keeps all.

    Raises:
        InputError: no frame with labels can be read.
    """
    if folder.exists():
        return
    refs = source.refs()
    if limit:
        refs = [refs[i] for i in spread(len(refs), limit)]
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shape = (len(refs), *size)
    images = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, (*shape, 3))
    labels = np.lib.format.open_memmap(partial / "labels.npy", "w+", np.uint8, shape)
    count, first = 0, ""
    with Progress(refs, desc=folder.name, unit="frame") as bar:
        for ref in bar:
            try:
                images[count], labels[count] = labelled_frame(source, ref, size)
                count += 1
            except FrameError as error:
                first = first or str(error)
    if not count:
        raise InputError(f"{source.spec}: no frame can be scored; first error: {first}")
    images.flush()
    labels.flush()
    about = {"frames": count, "protocol": source.protocol}
    about |= {"left_out": len(refs) - count, "reason": first}
    write_json(partial / "frames.json", about)
    partial.rename(folder)


def load_frames(folder: Path) -> LabelledFrames:
    """Read what `store_frames` wrote.

    Raises:
        InputError: it is damaged.
    """
    remedy = f"delete the folder {folder} and run the same command again"
    about = read_json(folder / "frames.json", remedy)
    try:
        images, labels = (
            np.load(folder / name, mmap_mode="r", allow_pickle=False)[: about["frames"]]
            for name in ("images.npy", "labels.npy")
        )
        protocol, reason = get_protocol(about["protocol"]), about.get("reason", "")
        return LabelledFrames(images, labels, protocol, int(about["left_out"]), reason)
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise InputError(f"{folder}: is damaged ({first_line(error)}); {remedy}.") from error
