"""What a video file holds, learned by reading its packets once.

A container's frame count is an estimate and its time stamps may jump, so neither is trusted:
pictures are counted as packets, put into display order, and lost time becomes a gap in
their indices. AVI and raw streams carry no times of display; where such a stream reorders its
pictures, it is decoded once to learn their order.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from cpcdr.frames.decode import MAX_PIXELS
from cpcdr.frames.video_sizes import PictureSize, SizeWatch
from cpcdr.frames.video_times import frame_indices, runs, unwrapped, usual_step
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.names import readable

_TIMED = {"mov", "matroska", "mpegts", "mpeg", "flv", "nut", "ivf", "ogg", "mxf", "asf"}
"""Containers whose packets carry the time at which a picture is shown."""
_NO_VIDEO = {
    *("tty", "gif", "apng", "bin", "xbin", "adf", "idf", "rawvideo", "lavfi", "webp_anim"),
    *("concat", "hls", "dash", "sdp", "rtsp", "image2", "image2pipe", "alias_pix", "brender_pix"),
}
"""What FFmpeg opens like a video, but is text, a still picture or a list of other files."""
_MANY_JPEGS = (".mjpeg", ".mjpg")
"""FFmpeg sees only the first of JPEGs that follow each other, unless it is told."""
_REORDERED = 17
"""Frames by which a picture may be shown after its place in the file, and one."""
EMPTY_PICTURE = 8
"""Bytes of an MPEG-4 picture that repeats the one before."""
_PROBED = 40
"""Packets of an interlaced stream that are decoded to see whether each is a picture."""
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The pictures of a video stream. N packets in the order of the file, P pictures as displayed.

    Attributes:
        stream: index of the video stream in the container.
        streams: how many video streams there are, without cover pictures.
        positions: int64 [N] byte offset of each packet, -1 if unknown.
        sizes: int32 [N] bytes of each packet.
        stamps: int64 [N] time of each packet for seeking and recognition, in ``time_base``.
        keys: int64, rising: packets at which decoding can begin.
        packets: int64 [P] packet of each picture.
        places: int64 [N] the inverse, -1 for a packet whose picture is not shown.
        frame_indices: int64 [P], rising; lost time leaves gaps.
        lost: pictures that the container lists behind the end of a file that was cut off.
        changes: (first packet, size), the first at 0: where the size of the pictures changes.
        rate: pictures a second.
        interlaced: whether the stream is marked as interlaced; DV's decoder marks all.
        broken_off: whether reading ended with an error.
        unread: bytes of the file after its last picture, 0 if unknown.
        loose_flags: packets by which a damage mark of the container may come early. Such a mark
            also stands where recordings were merely joined, so that only what follows is doubted.
    """

    stream: int
    streams: int
    positions: NDArray[np.int64]
    sizes: NDArray[np.int32]
    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    packets: NDArray[np.int64]
    places: NDArray[np.int64]
    frame_indices: NDArray[np.int64]
    lost: int
    changes: tuple[tuple[int, PictureSize], ...]
    rate: float
    interlaced: bool
    broken_off: bool
    unread: int
    loose_flags: int

    def size_of(self, packet: int) -> PictureSize:
        """The size of a packet's picture."""
        return [size for first, size in self.changes if first <= packet][-1]

    def end_of(self, packet: int) -> int:
        """The next key packet after a packet, or the number of packets."""
        following = int(np.searchsorted(self.keys, packet, "right"))
        return int(self.keys[following]) if following < len(self.keys) else len(self.sizes)


def open_container(path: Path) -> Any:
    """The file as a PyAV container. Nothing that it may refer to, file or address, is opened.

    Raises:
        InputError: the file is missing, empty, truncated beyond reading or not a video.
    """
    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(str(path), metadata_errors="replace", options=options)
        if container.format.name == "jpeg_pipe" and path.suffix.lower() in _MANY_JPEGS:
            container.close()
            container = av.open(str(path), format="mjpeg", options=options)
        return container
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{readable(path)} cannot be opened as a video: it is cut off, damaged or of another "
            "kind; copy it again, convert it to MP4, or remove it."
        ) from error


def video_streams(container: Any) -> list[Any]:
    """The container's streams of moving pictures, the best first: the main, then the larger one."""
    names = set(container.format.name.split(","))
    if names & _NO_VIDEO or any(name.endswith("_pipe") for name in names):
        return []
    moving = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and not stream.disposition & _COVER
        and 0 < stream.width * stream.height <= MAX_PIXELS
    ]
    return sorted(
        moving,
        key=lambda s: (
            s.frames != 1,
            bool(s.disposition & Disposition.default),
            s.width * s.height,
        ),
        reverse=True,
    )


@lru_cache(maxsize=64)
def read_index(path: Path, modified: int, length: int) -> VideoIndex:
    """The index of a video file in this state (modification time in ns, bytes), read once.

    Raises:
        InputError: the file is missing, truncated beyond reading, or holds no moving picture.
    """
    with open_container(path) as container:
        streams = video_streams(container)
        if not streams:
            raise InputError(
                f"{readable(path)} holds no video: it has only sound, text or a still picture; "
                "remove it."
            )
        stream = only(container, streams[0])
        packets = _read_packets(container, stream)
        if not len(packets.sizes):
            raise InputError(
                f"{readable(path)} holds no video frame: it was cut off while copying or "
                "recording, or is no video; copy it again or remove it."
            )
        lost = _lost(container, stream, path, len(packets.sizes), length)
        order, times = _display_order(path, container, stream, packets)
        if not len(order):
            raise InputError(
                f"No picture of {readable(path)} can be decoded: convert the video anew, or "
                "remove it."
            )
        interval, places = usual_step(times), np.full(len(packets.sizes), -1, np.int64)
        places[order] = np.arange(len(order))
        return VideoIndex(
            stream.index,
            len(streams),
            packets.positions,
            packets.sizes,
            packets.stamps,
            _usable_keys(packets, stream.codec_context.name),
            order,
            places,
            frame_indices(len(order), times, interval),
            lost,
            tuple(packets.changes),
            _rate(interval, stream),
            stream.codec_context.field_order > 1 or stream.codec_context.name == "dvvideo",
            packets.broken_off,
            _unread(packets, length),
            2 if "mpegts" in container.format.name else 0,
        )


def only(container: Any, stream: Any) -> Any:
    """The stream, with all others left unread."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


@dataclass(eq=False)
class _Packets:
    positions: NDArray[np.int64]
    sizes: NDArray[np.int32]
    stamps: NDArray[np.int64]
    timed: bool
    clocked: bool
    keys: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    broken_off: bool
    changes: list[tuple[int, PictureSize]]


def _read_packets(container: Any, stream: Any) -> _Packets:
    rows = []
    watch = SizeWatch(stream)
    timed, clocked = True, False
    errors: list[Exception] = []
    codec = stream.codec_context.name
    for number, packet in enumerate(packets_of(container, stream, errors)):
        position = -1 if packet.pos is None else packet.pos
        timed &= packet.pts is not None
        stamp = packet.pts if packet.pts is not None else packet.dts
        clocked |= stamp is not None
        stamp = number if stamp is None else stamp
        # Not shown: what an edit list cuts away, and VP8's reference pictures.
        hidden = packet.is_discard or (codec == "vp8" and not bytes(packet)[0] & 0x10)
        rows.append((position, packet.size, stamp, packet.is_keyframe, hidden))
        if packet.is_keyframe:
            watch.see(number, packet)
    positions, sizes, stamps, keys, unseen = zip(*rows, strict=True) if rows else [()] * 5
    clock = np.array(stamps, np.int64)
    return _Packets(
        np.array(positions, np.int64),
        np.array(sizes, np.int32),
        unwrapped(clock) if "mpeg" in container.format.name else clock,
        timed,
        clocked,
        np.array(keys, bool),
        ~np.array(unseen, bool),
        bool(errors),
        watch.changes,
    )


def packets_of(container: Any, stream: Any, errors: list[Exception] | None = None) -> Iterator[Any]:
    """Every packet with data, to where the file ends or cannot be read further: see ``errors``."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except (av.FFmpegError, OSError) as error:
        if errors is not None:
            errors.append(error)


def set_number(packet: Any, number: int) -> None:
    """Give a packet a number, which the picture decoded from it bears."""
    packet.opaque = (number,)  # PyAV forgets an object by its id, and Python's small ints are one


def number_of(frame: Any) -> int:
    """The number of the packet that a picture was decoded from, -1 if the decoder lost it."""
    return -1 if frame.opaque is None else int(frame.opaque[0])


def _display_order(
    path: Path, container: Any, stream: Any, packets: _Packets
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """(packet of each picture as displayed, times of the pictures run by run; none if unknown)."""
    timed = packets.timed and bool(_TIMED & set(container.format.name.split(",")))
    apart = _fields_apart(path, stream, len(packets.sizes))
    if apart or (not timed and stream.codec_context.reorder_depth):
        return _decoded_order(path, stream.index), []
    reach = _REORDERED / float(stream.guessed_rate or _REORDERED) / float(stream.time_base)
    shown = [run[packets.shown[run]] for run in runs(packets.stamps, packets.keys, reach)]
    order = [run[np.argsort(packets.stamps[run], kind="stable")] for run in shown]
    times = [packets.stamps[run] for run in order if len(run)] if packets.clocked else []
    twice = any((np.diff(run) == 0).any() for run in times)
    if twice and "mpeg" in container.format.name.split(","):  # FFmpeg guesses some times there
        decoded = _decoded_order(path, stream.index)
        return decoded, times if len(decoded) == sum(map(len, times)) else []
    return np.concatenate(order), times


def _fields_apart(path: Path, stream: Any, count: int) -> bool:
    """Whether an interlaced stream has a packet for each field, and so two for a picture."""
    probed = min(count, _PROBED)
    interlaced = stream.codec_context.field_order > 1
    return interlaced and len(_decoded_order(path, stream.index, probed)) < 0.75 * probed


def _decoded_order(path: Path, index: int, most: int | None = None) -> NDArray[np.int64]:
    """The packet of each picture, of the first ``most`` packets, in the order of being shown."""
    order = []
    with open_container(path) as container:
        stream = only(container, container.streams[index])
        context = stream.codec_context
        context.copy_opaque = True
        for number, packet in enumerate(islice(packets_of(container, stream), most)):
            set_number(packet, number)
            with suppress(av.FFmpegError):
                order += [number_of(frame) for frame in context.decode(packet)]
        with suppress(av.FFmpegError):
            order += [number_of(frame) for frame in context.decode(None)]
    return np.array([number for number in order if number >= 0], np.int64)


def _unread(packets: _Packets, length: int) -> int:
    known = packets.positions.min() >= 0
    return length - int((packets.positions + packets.sizes).max()) if known else 0


def _rate(interval: float, stream: Any) -> float:
    """Pictures a second: as stated if that fits the time stamps, which may be rounded."""
    stated = float(stream.guessed_rate or 0)
    measured = float(1 / (interval * stream.time_base)) if interval else stated
    return round(stated if abs(stated - measured) < 0.05 * measured else measured, 3)


def _usable_keys(packets: _Packets, codec: str) -> NDArray[np.int64]:
    """Packets where decoding can begin: the first only, if the stream does not mark any.

    DivX and Xvid pack two pictures into a packet and an empty one into the next, and which picture
    is in which packet is known only from the beginning.
    """
    packed = codec == "mpeg4" and bool((packets.sizes <= EMPTY_PICTURE).any())
    return np.flatnonzero(packets.keys) if packets.keys.any() and not packed else np.zeros(1, int)


def _lost(container: Any, stream: Any, path: Path, count: int, length: int) -> int:
    """Pictures that the container's own table lists behind the end of the file."""
    names = container.format.name
    if "mov" in names:
        listed = len(stream.index_entries)
        if listed > count and any(e.pos + e.size > length for e in stream.index_entries):
            return listed - count
    if names == "avi" and stream.frames > count:
        with path.open("rb") as file:
            riff = file.read(8)
        if int.from_bytes(riff[4:8], "little") + 8 > length:
            return int(stream.frames) - count
    return 0
