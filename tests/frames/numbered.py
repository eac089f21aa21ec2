"""Pictures with a number in readable bits, videos of them, and what a source reads of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames import FrameSource
from cpcdr.runtime.errors import FrameError

_BITS = 12
CORNERS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230), "grey": (128,) * 3}


def picture(number: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """A texture that moves with the number, which is a row of bits; a colour in each corner."""
    side, block = 16, width // 16
    shape = (height // side + 2, width * 4 // side, 3)
    texture = np.random.default_rng(0).integers(60, 200, shape, dtype=np.uint8)
    left = number * 4 % (width * 2)
    image = texture.repeat(side, 0).repeat(side, 1)[:height, left : left + width].copy()
    top = height // 3
    image[top - 4 : top + block + 4] = 0
    for bit in range(_BITS):
        value = 255 if number >> (_BITS - 1 - bit) & 1 else 30
        image[top : top + block, (bit + 2) * block + 1 : (bit + 3) * block - 1] = value
    image[top : top + block, : 2 * block] = 255
    image[:block, :block], image[:block, -block:] = CORNERS["red"], CORNERS["green"]
    image[-block:, :block], image[-block:, -block:] = CORNERS["blue"], CORNERS["grey"]
    return image


def number_in(image: NDArray[np.uint8]) -> int | None:
    """The number of a picture, None if it has none."""
    height, width = image.shape[:2]
    block, middle = width / 16, int(height / 3 + width / 32)
    row = image[middle - 2 : middle + 3].mean((0, 2))
    if row[int(block)] < 160:
        return None
    bits = [int(row[int((bit + 2.5) * block)] > 140) for bit in range(_BITS)]
    return int("".join(map(str, bits)), 2)


def corners(image: NDArray[np.uint8]) -> list[str]:
    """The names of the colours at top left, top right, bottom left and bottom right."""
    height, width = image.shape[:2]
    inset = width // 32
    places = [(y, x) for y in (inset, height - inset) for x in (inset, width - inset)]
    colours = [image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)) for y, x in places]
    return [
        min(CORNERS, key=lambda name: float(np.abs(colour - CORNERS[name]).sum()))
        for colour in colours
    ]


def read_numbers(source: FrameSource, order: str = "forward") -> list[int | None]:
    """The numbers of all frames in the order of the source, None where one is rejected."""
    refs = source.refs()
    places = list(range(len(refs)))
    if order == "backward":
        places.reverse()
    if order == "random":
        np.random.default_rng(0).shuffle(places)
    found: dict[int, int | None] = {}
    for place in places:
        try:
            found[place] = number_in(source.read(refs[place]).image)
        except FrameError:
            found[place] = None
    return [found[place] for place in range(len(refs))]


def write_numbered(
    path: Path,
    numbers: Iterable[int],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    size: tuple[int, int] = (320, 240),
    gop: int = 12,
    b_frames: int = 0,
    rate: int = 30,
    times_ms: Sequence[int] | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    adjust: Callable[[Any], None] | None = None,
) -> Path:
    """A video of numbered pictures; ``adjust`` gets the codec context before it is opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if adjust is not None:
            adjust(stream.codec_context)
        for frame in _frames(numbers, size, pixels, times_ms):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _frames(
    numbers: Iterable[int], size: tuple[int, int], pixels: str, times_ms: Sequence[int] | None
) -> Iterator[av.VideoFrame]:
    for place, number in enumerate(numbers):
        frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
        frame = frame.reformat(format=pixels)
        if times_ms is not None:
            frame.pts, frame.time_base = times_ms[place], Fraction(1, 1000)
        yield frame
