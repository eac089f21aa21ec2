"""Small trees of labelled frames: the synthetic street's, under the ids of other data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cpcdr.frames import Frame, FrameSource, open_frames


def camvid_tree(root: Path, seed: int = 3) -> FrameSource:
    """``images/A_000.jpg`` and ``labels/A_000.png`` to 005, the seven classes as CamVid's first."""
    for i, (frame, labels) in enumerate(_frames(seed)):
        _write(root / "images" / f"A_{i:03d}.jpg", frame.encoded)
        known = np.where(labels == 255, 11, labels)
        _write(root / "labels" / f"A_{i:03d}.png", cv2.imencode(".png", known)[1].tobytes())
    return open_frames(f"camvid:{root}")


def cityscapes_tree(root: Path, seed: int = 3) -> FrameSource:
    """A city of six frames, the seven classes as label ids 7 to 13 (road to fence)."""
    for i, (frame, labels) in enumerate(_frames(seed)):
        name = f"a_000000_{i:06d}"
        _write(root / f"leftImg8bit/train/a/{name}_leftImg8bit.jpg", frame.encoded)
        ids = cv2.imencode(".png", np.where(labels == 255, 0, labels + 7))[1]
        _write(root / f"gtFine/train/a/{name}_gtFine_labelIds.png", ids.tobytes())
    return open_frames(f"cityscapes:{root}")


def _frames(seed: int) -> Iterator[tuple[Frame, np.ndarray]]:
    street = open_frames(f"synthetic:seed={seed},streets=6,frames=1,height=64,width=128")
    for ref in street.refs():
        frame = street.read(ref)
        assert frame.labels is not None
        yield frame, frame.labels


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
