"""Packets that no encoder wrote, though decoders make pictures of them."""

from collections.abc import Iterator

_SLICES = {"h264": (0x1F, 0, range(1, 6)), "hevc": (0x7E, 1, range(32))}
"""By codec: mask and shift of a unit's first byte for its kind, and the kinds with pictures."""
_NEVER = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
"""What an encoder keeps out of a unit, so that start codes can be found."""
_ZEROS = bytes(32)
"""An arithmetic coder's data has no such run: it would be 256 bits that are all the same."""


def is_overwritten(data: bytes, codec: str, length_bytes: int) -> bool:
    """Whether a packet was overwritten, as zeros are left where a disk or a download failed.

    Only what cannot be in a whole packet counts: forbidden bytes in H.264's and HEVC's pictures,
    units that are longer than their packet, long runs of zeros in VP8 and VP9.

    Args:
        length_bytes: see `bytes_of_length`.
    """
    if codec in ("vp8", "vp9"):
        return _ZEROS in data
    if codec not in _SLICES:
        return False
    mask, shift, slices = _SLICES[codec]
    lengths = length_bytes if not data.startswith(b"\0\0\0\1") else 0
    for unit in _units(data, lengths):
        if unit is None:
            return True
        if unit and (unit[0] & mask) >> shift in slices and _is_broken(unit, bool(lengths)):
            return True
    return False


def _is_broken(unit: bytes, measured: bool) -> bool:
    """A few zeros at a unit's end align the next one; before a start code they may be many."""
    whole = unit.rstrip(b"\0")
    return (measured and unit.endswith(_ZEROS)) or any(never in whole for never in _NEVER)


def bytes_of_length(codec: str, header: bytes) -> int:
    """Bytes of the length before each unit of H.264 or HEVC; 0 if start codes are between them.

    Args:
        header: what the container has beside the packets ("extradata").
    """
    place = {"h264": 4, "hevc": 21}.get(codec, len(header))
    return (header[place] & 3) + 1 if header[:1] == b"\1" and place < len(header) else 0


def _units(data: bytes, length_bytes: int) -> Iterator[bytes | None]:
    """The units of a packet; None for one that is longer than what is left of it."""
    if not length_bytes:
        yield from data.split(b"\0\0\1")
        return
    at = 0
    while at + length_bytes < len(data):
        start = at + length_bytes
        at = start + int.from_bytes(data[at:start], "big")
        yield data[start:at] if at <= len(data) else None
