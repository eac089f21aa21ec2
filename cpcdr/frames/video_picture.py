"""A decoded video frame to upright 8-bit RGB in a screen's colours."""

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

_HDR = {ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67}


class PictureMaker:
    """Makes RGB pictures of a stream's frames; keeps what FFmpeg sets up for a size and format."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._fields: dict[tuple[str, int, int], av.filter.Graph] = {}

    def picture(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB, upright by the rotation or mirroring that the file states.

        Of an interlaced frame only the upper field is taken, and the lines between are
        interpolated: the two fields were seen 1/50 or 1/60 s apart, and a car moves in that time.
        The result depends on no other frame, so that it is the same in whatever order one reads.
        """
        if frame.interlaced_frame:
            image = _between_lines(self._rgb(self._upper_field(frame)), frame.height)
        else:
            image = self._rgb(frame)
        return _upright(image, *display_of(frame))

    def _rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Ranges and matrices are the stream's own; wide and high-dynamic colours become sRGB's."""
        wide: dict[str, Any] = {}
        if frame.color_trc in _HDR or frame.color_primaries == ColorPrimaries.BT2020:
            wide = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
        converted = self._scaler.reformat(frame, format="rgb24", threads=1, **wide)
        return converted.to_ndarray().astype(np.uint8, copy=False)

    def _upper_field(self, frame: av.VideoFrame) -> av.VideoFrame:
        key = (frame.format.name, frame.width, frame.height)
        if key not in self._fields:
            graph = av.filter.Graph()
            graph.threads = 1
            source = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or Fraction(1, 1000),
            )
            field, sink = graph.add("field", "type=top"), graph.add("buffersink")
            source.link_to(field)
            field.link_to(sink)
            graph.configure()
            self._fields[key] = graph
        graph = self._fields[key]
        graph.vpush(frame)
        return graph.vpull()


def display_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How the file says that a frame is displayed.

    Returns:
        whether rows become columns, and whether left and right, then top and bottom change places.
    """
    stated: Any = frame.side_data.get("DISPLAYMATRIX")
    if stated is None:
        return False, False, False
    # (x, y) is displayed at (a x + c y, b x + d y)
    a, b, _, c, d = struct.unpack_from("=5i", bytes(stated))
    return (False, a < 0, d < 0) if abs(a) >= abs(b) else (True, c < 0, b < 0)


def _upright(
    image: NDArray[np.uint8], sideways: bool, mirrored: bool, upside_down: bool
) -> NDArray[np.uint8]:
    if sideways:
        image = image.swapaxes(0, 1)
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(image[::-1] if upside_down else image)


def _between_lines(field: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """A picture of ``height`` lines whose even lines are a field's; the others are means."""
    image = np.repeat(field, 2, axis=0)[:height]
    middle = (field[:-1].astype(np.uint16) + field[1:] + 1) // 2
    image[1 : 2 * len(middle) : 2] = middle
    return image
