"""Packets that no encoder wrote."""

import pytest

from cpcdr.frames.video_damage import bytes_of_length, is_overwritten

SLICE = {"h264": b"\x65", "hevc": b"\x26\x01"}
REMARK = {"h264": b"\x06", "hevc": b"\x4e\x01"}


def with_length(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def with_start_codes(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


@pytest.mark.parametrize("codec", SLICE)
@pytest.mark.parametrize("length_bytes", [0, 4])
def test_forbidden_bytes_in_a_picture(codec: str, length_bytes: int) -> None:
    packed = with_length if length_bytes else with_start_codes
    whole = SLICE[codec] + b"\x11\0\0\x03\0\x12" * 9

    def overwritten(*units: bytes) -> bool:
        return is_overwritten(packed(*units), codec, length_bytes)

    assert not overwritten(whole, whole)
    assert overwritten(whole, whole + b"\0\0\0\x55")
    assert overwritten(whole + b"\0\0\x02\x55", whole)
    assert not overwritten(whole + bytes(9), whole)  # some fill up their packets
    assert not overwritten(REMARK[codec] + b"\0\0\0\x55", whole)  # some do not mask their remarks
    assert overwritten(whole + bytes(32), whole) == bool(length_bytes)
    assert not is_overwritten(with_start_codes(whole), codec, length_bytes)


def test_a_unit_that_is_longer_than_its_packet() -> None:
    data = with_length(b"\x65\x11\x22", b"\x65\x33")
    assert not is_overwritten(data, "h264", 4)
    assert is_overwritten(data[:-1], "h264", 4)


def test_long_zeros_in_other_codecs() -> None:
    hole = b"\x11" + bytes(32)
    assert is_overwritten(hole + b"\x11", "vp9", 0)
    assert not is_overwritten(hole[:-1], "vp8", 0)
    assert not is_overwritten(hole + b"\x11", "rawvideo", 0)


def test_bytes_of_a_length() -> None:
    assert bytes_of_length("h264", b"\1\x64\0\x1f\xff") == 4
    assert bytes_of_length("hevc", b"\1" + bytes(20) + b"\xfd") == 2
    assert bytes_of_length("h264", b"\0\0\0\1\x67") == 0
    assert bytes_of_length("h264", b"") == bytes_of_length("vp9", b"\1\1\1\1\1\1") == 0
