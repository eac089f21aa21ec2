"""Broken images are refused with a sentence; odd ones become plain 8-bit RGB."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cpcdr.frames.decode import decode_image, encode_jpeg, read_image, read_label_map
from cpcdr.runtime.errors import FrameError

SMOOTH = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8), (0, 0), 3
)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.9, 0.995])
def test_truncated_files_are_refused(tmp_path, suffix, fraction):
    path = tmp_path / f"frame{suffix}"
    cv2.imwrite(str(path), SMOOTH)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FrameError, match=f"frame{suffix}"):
        read_image(str(path))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_file_filled_up_with_zeros_is_refused(tmp_path, suffix):
    """What a full disk or a broken copy leaves: the right size, the end empty."""
    path = tmp_path / f"frame{suffix}"
    cv2.imwrite(str(path), SMOOTH)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(FrameError):
        read_image(str(path))


def test_a_damaged_png_is_refused(tmp_path):
    data = bytearray(cv2.imencode(".png", SMOOTH)[1].tobytes())
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(FrameError):
        decode_image(bytes(data), "x")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_empty_and_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "frame.png"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=r"frame\.png"):
        read_image(str(path))


def test_a_missing_file_is_a_frame_error(tmp_path):
    with pytest.raises(FrameError, match="cannot be read"):
        read_image(str(tmp_path / "gone.png"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 30_000])
def test_huge_dimensions_are_refused_before_decoding(side):
    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    with pytest.raises(FrameError, match="scale it down"):
        decode_image(png, "huge.png")


def test_grey_becomes_rgb_and_keeps_its_bytes(tmp_path):
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), SMOOTH[..., 0])
    encoded, image = read_image(str(path))
    assert encoded == path.read_bytes()
    np.testing.assert_array_equal(image, np.repeat(SMOOTH[..., :1], 3, axis=2))


def test_channels_are_rgb(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (4, 3), (255, 0, 0)).save(path)
    assert read_image(str(path))[1][0, 0].tolist() == [255, 0, 0]


def test_sixteen_bits_alpha_and_other_formats_become_plain_png(tmp_path):
    deep = SMOOTH.astype(np.uint16) * 257
    alpha = np.dstack([SMOOTH, np.zeros((48, 64), np.uint8)])
    for name, array in [("deep.png", deep), ("alpha.png", alpha), ("frame.bmp", SMOOTH)]:
        path = tmp_path / name
        cv2.imwrite(str(path), array)
        encoded, image = read_image(str(path))
        np.testing.assert_array_equal(image, SMOOTH[..., ::-1], err_msg=name)
        with Image.open(io.BytesIO(encoded)) as plain:
            assert (plain.format, plain.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(decode_image(encoded, name), image)


def test_exif_rotation_is_applied_to_pixels_and_bytes(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(path, exif=exif)
    encoded, image = read_image(str(path))
    assert image.shape == (64, 48, 3)
    raw = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(raw[..., ::-1], image)


def test_jpeg_round_trip_is_close():
    image = decode_image(encode_jpeg(SMOOTH), "x")
    assert np.abs(image.astype(int) - SMOOTH).mean() < 2


def test_label_maps_keep_indices_and_refuse_colours(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(labels, mode="P")
    palette.putpalette([i for colour in range(256) for i in (colour, 0, 255 - colour)])
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_label_map(str(tmp_path / "palette.png")), labels)
    Image.new("RGB", (4, 3)).save(tmp_path / "colours.png")
    with pytest.raises(FrameError, match="3 channels"):
        read_label_map(str(tmp_path / "colours.png"))
