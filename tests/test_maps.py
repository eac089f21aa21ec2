"""Maps of 16 bits as bytes: they come back, PNG of earlier datasets is read, damage is noticed."""

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.maps import (
    decode_disparity,
    decode_ids,
    decode_png16,
    disparity_png,
    encode_disparity,
    encode_ids,
    encode_png16,
    stored_disparity,
)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_every_map_comes_back(seed, height, width):
    values = np.random.default_rng(seed).integers(0, 65536, (height, width)).astype(np.uint16)
    disparity = values.astype(np.float32) / 65535
    for ids in (encode_ids(values), encode_ids(values, "lz4"), encode_png16(values)):
        assert np.array_equal(decode_ids(ids, values.shape), values)
    lz4 = encode_disparity(disparity, "lz4")
    for data in (encode_disparity(disparity), lz4, disparity_png(disparity)):
        assert np.array_equal(decode_disparity(data, values.shape), disparity)
    assert np.array_equal(decode_png16(encode_png16(values)), values)


def test_a_map_of_any_layout_is_stored():
    values = np.arange(24, dtype=np.uint16).reshape(4, 6)
    assert np.array_equal(decode_ids(encode_ids(values.T), (6, 4)), values.T)
    assert np.array_equal(decode_ids(encode_ids(values[:, ::2]), (4, 3)), values[:, ::2])


def test_the_bytes_are_what_the_guide_says():
    """Read with the two lines that the guide gives to those who do not have this package."""
    ids = np.random.default_rng(0).integers(0, 9, (5, 7)).astype(np.uint16)
    disparity = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    zstd = pa.Codec("zstd")
    raw = zstd.decompress(encode_ids(ids), 2 * 5 * 7)
    assert np.array_equal(np.frombuffer(raw, "<u2").reshape(5, 7), ids)
    high, low = np.frombuffer(zstd.decompress(encode_disparity(disparity), 70), np.uint8).reshape(
        2, 5, 7
    )
    back = np.cumsum(high * np.uint16(256) + low, axis=0, dtype=np.uint16) / 65535
    np.testing.assert_allclose(back, disparity, atol=1e-5)


def test_other_bytes_are_no_map():
    eight_bit = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()
    short = encode_png16(np.zeros((9, 9), np.uint16))[:20]
    lz4 = encode_ids(np.zeros((9, 9), np.uint16), "lz4")
    for data in (b"", b"junk", eight_bit, short, lz4[:4], lz4[:-6], lz4):
        assert decode_png16(data) is None
        assert decode_ids(data, (4, 4)) is None
        assert decode_disparity(data, (4, 4)) is None


@pytest.mark.parametrize("encode", [encode_ids, encode_png16])
def test_a_map_of_another_size_is_none(encode):
    data = encode(np.zeros((4, 6), np.uint16))
    assert decode_ids(data, (4, 6)) is not None
    for size in ((4, 5), (6, 6), (6, 4), (2**20, 2**20)):
        if size != (6, 4) or encode is encode_png16:  # the bytes of (4, 6) and (6, 4) are alike
            assert decode_ids(data, size) is None, size


def test_invalid_disparity_is_zero_and_valid_disparity_never_is():
    disparity = np.array([[np.nan, np.inf, -1.0, 0.0, 1e-9, 0.5, 1.0, 2.0]], np.float32)
    expected = np.array([[0, 0, 0, 0, 1, 32768, 65535, 65535]], np.float32) / 65535
    assert np.array_equal(stored_disparity(disparity), expected)
    assert np.array_equal(decode_disparity(encode_disparity(disparity), (1, 8)), expected)
    assert decode_png16(disparity_png(disparity)).tolist() == [[0, 0, 0, 0, 1, 32768, 65535, 65535]]
