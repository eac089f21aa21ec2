"""Videos that browsers play: VP9 in an mp4 file, whose index comes first.

H.264 plays in more places, but PyAV's wheels encode it by libx264 only, which is under the GPL.
VP9's encoder, libvpx, is under a BSD licence.
"""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from cpcdr.runtime.errors import InputError, no_room

_ENCODER = "libvpx-vp9"
_QUALITY = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "5"}
_ROUNDED = 1e-4
_INDEX_FIRST = {"movflags": "+faststart"}
_BT709 = 1
"""BT.709 among FFmpeg's colour spaces, primaries and transfer functions: players guess by the size
of a video that names none."""


class Mp4:
    """A video that appears under its name when it is closed.

    Args:
        size: height and width of all pictures. Where one is odd, the last row or column is
            repeated once: the colours of yuv420p have half the resolution.
        fps: frames per second.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self.path, self.size = path, size
        self._partial, self._rate = _partial(path), _rate(fps)
        self._count = 0
        try:
            self._container = av.open(str(self._partial), "w", options=dict(_INDEX_FIRST))
            self._stream = self._open_stream()
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._partial.unlink(missing_ok=True)
            raise InputError(
                f"{path}: cannot be written as a VP9 video ({error}); choose another folder, and "
                "install av from its wheels if the encoder is missing."
            ) from error

    def _open_stream(self) -> Any:
        stream: Any = self._container.add_stream(_ENCODER, rate=self._rate, options=dict(_QUALITY))
        stream.height, stream.width = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = max(1, round(2 * self._rate))  # players jump to key frames
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append uint8 [H, W, 3] RGB."""
        height, width = self.size
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the video and move it to its name."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Delete what was written."""
        with suppress(av.FFmpegError):
            self._container.close()
        self._partial.unlink(missing_ok=True)


def join(parts: Sequence[Path], path: Path, fps: float) -> None:
    """One video of several, one after the other, without encoding them again.

    Args:
        parts: what `Mp4` wrote, of one size and of the rate ``fps``.

    Raises:
        InputError: a part cannot be read, or the video cannot be written.
    """
    partial, count = _partial(path), 0
    try:
        with av.open(str(partial), "w", options=dict(_INDEX_FIRST)) as joined:
            stream: Any = None
            for part in parts:
                with av.open(str(part)) as container:
                    video = container.streams.video[0]
                    stream = stream or joined.add_stream_from_template(video)
                    # A packet is a frame: VP9 keeps hidden ones in the packet of a shown one.
                    for packet in (each for each in container.demux(video) if each.size):
                        packet.stream, packet.time_base = stream, 1 / _rate(fps)
                        packet.pts, packet.dts, packet.duration = count, count, 1
                        joined.mux(packet)
                        count += 1
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if not isinstance(error, av.FFmpegError | IndexError) or no_room(error):
            raise
        raise InputError(
            f"{path}: its parts cannot be joined ({error}); delete {parts[0].parent} and run the "
            "same command again."
        ) from error


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.stem}.partial.mp4")


def _rate(fps: float) -> Fraction:
    """Also of rounded rates of NTSC, such as 29.97.

    >>> _rate(29.97), _rate(12.5), _rate(24)
    (Fraction(30000, 1001), Fraction(25, 2), Fraction(24, 1))
    """
    ntsc = Fraction(1000 * round(fps * 1.001), 1001)
    return ntsc if abs(ntsc - fps) < _ROUNDED else Fraction(fps).limit_denominator(1001)
