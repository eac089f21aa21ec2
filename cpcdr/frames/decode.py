"""Encoded image bytes to pixels and back, refusing damaged files instead of decoding half of them.

OpenCV decodes fast but fills the missing rows of a truncated file with grey without an error, so
completeness is checked beside it. The orientation that a file states is applied here and nowhere
else, to sizes read from headers as to pixels.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cpcdr.frames.whole_jpeg import damage_of_jpeg, end_of_jpeg
from cpcdr.runtime.errors import FrameError
from cpcdr.runtime.names import real_path

MAX_PIXELS = 1 << 26
"""Larger images are refused before decoding: 64 megapixels, twice an 8K frame."""

JPEG_QUALITY = 95

_EXIF_ORIENTATION = 0x0112
_PLAIN_MODES = ("1", "L", "P", "RGB")
_TWELVE_BITS = 4095
_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """JPEG bytes, quality 95, of uint8 [H, W, 3] RGB."""
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return encoded.tobytes()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of uint8 [H, W, 3] RGB."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def decode_image(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of an encoded image, upright: grey becomes RGB, alpha goes.

    Of 16 bits the upper 8 stay; where no value uses the upper four, the picture is one of 12 bits
    (a raw camera's) and the upper 8 of these stay.

    Raises:
        FrameError: the bytes are empty, not an image, truncated, damaged or too large.
    """
    orientation = _check_complete(encoded, name)
    with quiet_opencv():
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), _COLOUR)
    if image is None:
        raise FrameError(f"{name} cannot be decoded as an image: replace or remove it.")
    if image.dtype == np.uint16:
        image = np.right_shift(image, 4 if image.max() <= _TWELVE_BITS else 8).astype(np.uint8)
    return _upright(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), orientation)


def read_image(path: str) -> tuple[bytes, NDArray[np.uint8]]:
    """An image file as (encoded bytes, uint8 [H, W, 3] RGB), as `plain_image`.

    Raises:
        FrameError: the file is missing, or as `plain_image`.
    """
    return plain_image(read_bytes(path), path)


def plain_image(encoded: bytes, path: str) -> tuple[bytes, NDArray[np.uint8]]:
    """The bytes of an image file as (encoded bytes, uint8 [H, W, 3] RGB).

    The bytes are the file's own where any decoder reads the same pixels from them. Files with 16
    bits, alpha, an EXIF rotation, or of a format other than JPEG and PNG are re-encoded as PNG.

    Raises:
        FrameError: the file is empty, not an image, truncated, damaged or too large.
    """
    if encoded.startswith(b"\xff\xd8"):
        damage = damage_of_jpeg(encoded)
        if damage:
            raise FrameError(f"{path} is a damaged JPEG ({damage}): copy it again from its origin.")
    image = decode_image(encoded, path)
    if not _is_plain(encoded):
        encoded = encode_png(image)
    return encoded, image


def read_label_map(path: str) -> NDArray[np.integer]:
    """Integers [H, W] of a single-channel label file; palette files give their indices.

    Raises:
        FrameError: the file is missing, broken, or has colours instead of ids.
    """
    labels = read_colours_or_ids(path)
    if labels.ndim != 2:
        raise FrameError(
            f"{path} has {labels.shape[-1]} channels, so it is a colour picture and not a label "
            "map: give the single-channel file of label ids."
        )
    return labels


def read_colours_or_ids(path: str) -> NDArray[np.integer]:
    """Integers [H, W] or [H, W, C] of a label file, as they are stored.

    Raises:
        FrameError: the file is missing or broken.
    """
    encoded = read_bytes(path)
    _check_complete(encoded, path)
    try:
        with Image.open(io.BytesIO(encoded)) as file:
            labels = np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"{path} cannot be decoded as a label map: replace it.") from error
    return labels.astype(np.int32) if labels.dtype == np.bool_ else labels


def image_size(path: Path) -> tuple[int, int] | None:
    """(H, W) as displayed from the header alone, None where there is no readable header."""
    try:
        with Image.open(path) as file:
            width, height = file.size
            return (width, height) if _orientation(file) > 4 else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def too_large(png: bytes) -> bool:
    """Whether the header of a PNG file announces more than `MAX_PIXELS`."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    return width * height > MAX_PIXELS


def read_bytes(path: str) -> bytes:
    """The file's bytes.

    Raises:
        FrameError: the file is missing, unreadable or empty.
    """
    try:
        data = real_path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FrameError(f"{path} cannot be read ({reason}): restore the file.") from error
    if not data:
        raise FrameError(f"{path} is empty (0 bytes): copy it again from its origin.")
    return data


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's warnings off stderr: errors are reported in one sentence instead."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _check_complete(encoded: bytes, name: str) -> int:
    """Refuse what is truncated, damaged or too large; the EXIF orientation of what is not."""
    try:
        with Image.open(io.BytesIO(encoded)) as file:
            width, height = file.size
            if width * height > MAX_PIXELS:
                raise FrameError(
                    f"{name} is {width}×{height} pixels, more than {MAX_PIXELS} in all: scale it "
                    "down first."
                )
            form, orientation = file.format, _orientation(file)
            if form == "PNG":
                with Image.open(io.BytesIO(encoded)) as again:
                    again.verify()  # every chunk's checksum, up to the end marker
    except Image.DecompressionBombError as error:
        raise FrameError(f"{name} is too large to decode: scale it down first.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(
            f"{name} is damaged, truncated or not an image: copy it again from its origin."
        ) from error
    if form in ("JPEG", "MPO") and not end_of_jpeg(encoded):
        raise FrameError(f"{name} is a truncated JPEG: copy it again from its origin.")
    return orientation


def _orientation(file: Image.Image) -> int:
    """1..8 as EXIF counts them; 1 = upright, also without a valid statement.

    A TIFF file's own is applied by both Pillow and OpenCV already.
    """
    if file.format == "TIFF":
        return 1
    # getexif() decodes a PNG that states nothing
    if file.format == "PNG" and not {"exif", "Raw profile type exif"} & set(file.info):
        return 1
    try:
        stated = file.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return int(stated) if stated in range(1, 9) else 1


def _upright(image: NDArray[Any], orientation: int) -> NDArray[np.uint8]:
    """The picture as it was seen; orientations 5..8 lie on their side."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image).astype(np.uint8, copy=False)


def _is_plain(encoded: bytes) -> bool:
    with Image.open(io.BytesIO(encoded)) as file:
        deep = file.format == "PNG" and encoded[24] > 8  # IHDR's bit depth
        return (
            file.format in ("JPEG", "PNG")
            and file.mode in _PLAIN_MODES
            and not deep
            and _orientation(file) == 1
        )
