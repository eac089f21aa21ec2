"""Encoded image bytes to pixels and back, refusing what is broken instead of showing half of it.

OpenCV decodes fast but fills the missing rows of a truncated file with grey and says nothing, so
completeness is checked beside it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpcdr.runtime.errors import FrameError

MAX_PIXELS = 1 << 26
"""Larger images are refused before decoding: 64 megapixels, twice an 8K frame."""

JPEG_QUALITY = 95

_EXIF_ORIENTATION = 0x0112
_PLAIN_MODES = ("1", "L", "P", "RGB")


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """JPEG bytes, quality 95, of uint8 [H, W, 3] RGB."""
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return encoded.tobytes()


def decode_image(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an encoded image: grey becomes RGB, 16 bits become 8, alpha goes.

    Args:
        encoded: the file's bytes.
        name: the file or frame, for the sentence.

    Raises:
        FrameError: the bytes are empty, not an image, truncated, damaged or too large.
    """
    _check_complete(encoded, name)
    with quiet_opencv():
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise FrameError(f"{name} cannot be decoded as an image: replace or remove it.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image).astype(np.uint8, copy=False)


def read_image(path: str) -> tuple[bytes, NDArray[np.uint8]]:
    """An image file as (encoded bytes, uint8 [H, W, 3] RGB).

    The bytes are the file's own where any decoder reads the same pixels from them. Files with 16
    bits, alpha, an EXIF rotation, or of a format other than JPEG and PNG are re-encoded as PNG.

    Raises:
        FrameError: the file is missing, empty, not an image, truncated, damaged or too large.
    """
    encoded = read_bytes(path)
    image = decode_image(encoded, path)
    if not _is_plain(encoded):
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        encoded = png.tobytes()
    return encoded, image


def read_label_map(path: str) -> NDArray[np.integer]:
    """Integers [H, W] of a single-channel label file; palette files give their indices.

    Raises:
        FrameError: the file is missing, broken, or has colours instead of ids.
    """
    encoded = read_bytes(path)
    _check_complete(encoded, path)
    try:
        with Image.open(io.BytesIO(encoded)) as file:
            labels = np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"{path} cannot be decoded as a label map: replace it.") from error
    if labels.ndim != 2:
        raise FrameError(
            f"{path} has {labels.shape[-1]} channels, so it is a colour picture and not a label "
            "map: give the single-channel file of label ids."
        )
    return labels.astype(np.int32) if labels.dtype == np.bool_ else labels


def image_size(path: Path) -> tuple[int, int] | None:
    """(H, W) from the header alone, None where there is no readable header."""
    try:
        with Image.open(path) as file:
            width, height = file.size
            return height, width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def read_bytes(path: str) -> bytes:
    """The file's bytes.

    Raises:
        FrameError: the file is missing, unreadable or empty.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise FrameError(f"{path} cannot be read ({reason}): restore the file.") from error
    if not data:
        raise FrameError(f"{path} is empty (0 bytes): copy it again from its origin.")
    return data


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's own complaints off stderr: what is wrong is said in one sentence instead."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _check_complete(encoded: bytes, name: str) -> None:
    try:
        with Image.open(io.BytesIO(encoded)) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                raise FrameError(
                    f"{name} is {width}×{height} pixels, more than {MAX_PIXELS} in all: scale it "
                    "down first."
                )
            form = file.format
            if form == "PNG":
                file.verify()  # every chunk's checksum, up to the end marker
    except Image.DecompressionBombError as error:
        raise FrameError(f"{name} is too large to decode: scale it down first.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(
            f"{name} is damaged, truncated or not an image: copy it again from its origin."
        ) from error
    # Cameras pad files after the end-of-image marker, so it need not be the very last bytes.
    if form == "JPEG" and b"\xff\xd9" not in encoded.rstrip(b"\0")[-64:]:
        raise FrameError(f"{name} is a truncated JPEG: copy it again from its origin.")


def _is_plain(encoded: bytes) -> bool:
    with Image.open(io.BytesIO(encoded)) as file:
        deep = file.format == "PNG" and encoded[24] > 8  # IHDR's bit depth
        return (
            file.format in ("JPEG", "PNG")
            and file.mode in _PLAIN_MODES
            and not deep
            # getexif() decodes a PNG that has none
            and ("exif" not in file.info or file.getexif().get(_EXIF_ORIENTATION, 1) == 1)
        )
