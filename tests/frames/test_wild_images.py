"""Photos as people have them: turned, padded, damaged, huge, oddly named; the cases beside too."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numbered import corners, number_in, picture
from PIL import Image

from cpcdr.depth.sources import open_depth
from cpcdr.frames import IGNORE, open_frames
from cpcdr.frames.decode import MAX_PIXELS, decode_image, image_size, read_image, read_label_map
from cpcdr.frames.stored import frame_indices
from cpcdr.runtime.errors import FrameError

CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases"
UPRIGHT = ["red", "green", "blue", "grey"]
TO_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def case(name: str) -> Path:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no {name} in shared/cases")
    return path.resolve()


def read_all(folder: Path) -> list[Any]:
    source = open_frames(f"images:{folder}")
    return [source.read(ref) for ref in source.refs()]


def jpeg(number: int = 0, **options: Any) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture(number)).save(encoded, "JPEG", quality=90, **options)
    return encoded.getvalue()


def test_turned_photos_of_the_cases() -> None:
    frames = read_all(case("03-exif-turned-images/exif6"))
    assert [frame.image.shape for frame in frames] == [(320, 240, 3)] * 3
    assert [frame.intrinsics[2:].tolist() for frame in frames] == [[119.5, 159.5]] * 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TO_STORED)
def test_every_orientation_in_header_and_pixels(
    tmp_path: Path, form: str, orientation: int
) -> None:
    stored = Image.fromarray(picture(5))
    if TO_STORED[orientation] is not None:
        stored = stored.transpose(TO_STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a", "b"):
        stored.save(tmp_path / f"{name}.{form.lower()}", form, exif=exif)
    path = tmp_path / f"a.{form.lower()}"
    assert image_size(path) == (240, 320)
    for frame in read_all(tmp_path):
        assert frame.image.shape == (240, 320, 3)
        assert corners(frame.image) == UPRIGHT and number_in(frame.image) == 5
        np.testing.assert_array_equal(decode_image(frame.encoded, "x"), frame.image)


@pytest.mark.parametrize("folder", ["sef", "gps", "ffpad"])
def test_bytes_after_the_end_of_the_cases(folder: str) -> None:
    frames = read_all(case(f"04-jpeg-with-trailer/{folder}"))
    assert [number_in(frame.image) for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize(
    "trailer", [b"\0" * 5000, b"\xff" * 512, b"SEFT" + bytes(range(256)) * 9, b"\xff\xd8\xff\xe0\0"]
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_bytes_after_the_end_and_kinds_of_jpeg(
    tmp_path: Path, trailer: bytes, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(7, **options) + trailer)
    assert number_in(read_image(str(path))[1]) == 7


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_jpegs_that_end_early_are_refused(
    tmp_path: Path, options: dict[str, Any], end: bytes
) -> None:
    """Also those whose end marker somebody put back."""
    whole = jpeg(7, **options)
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole  # its end is not the end
    for data in (whole, whole[:2] + thumbnail + whole[2:]):
        path = tmp_path / "a.jpg"
        path.write_bytes(data[: len(data) - len(whole) // 3] + end)
        with pytest.raises(FrameError, match=r"a\.jpg is a (truncated|damaged) JPEG"):
            read_image(str(path))


def test_a_hole_in_a_jpeg_is_refused(tmp_path: Path) -> None:
    data = bytearray(jpeg(7))
    data[len(data) // 2 : len(data) // 2 + len(data) // 4] = bytes(len(data) // 4)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(FrameError, match="damaged JPEG"):
        read_image(str(path))
    source = open_frames(f"images:{case('11-damage-inside-is-taken-as-good/hole')}")
    for ref in source.refs():
        with pytest.raises(FrameError, match="damaged JPEG"):
            source.read(ref)


def test_overwritten_bytes_of_jpegs_are_noticed(tmp_path: Path) -> None:
    """Coded data finds its way again after damage, but then it is short or long of some bits."""
    whole, path, taken = jpeg(7), tmp_path / "a.jpg", 0
    path.write_bytes(whole)
    truth = read_image(str(path))[1].astype(int)
    places = range(1000, len(whole) - 100, 150)
    for first in places:
        path.write_bytes(whole[:first] + bytes(40) + whole[first + 40 :])
        try:
            taken += np.abs(read_image(str(path))[1] - truth).mean() > 2
        except FrameError as error:
            assert "damaged JPEG" in str(error)
    assert taken < len(places) / 8


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_good_jpegs_of_every_kind_are_read(tmp_path: Path, mode: str, subsampling: int) -> None:
    for progressive in (False, True):
        path = tmp_path / "a.jpg"
        options = {"progressive": progressive, "optimize": True}
        if mode != "L":
            options["subsampling"] = subsampling
        Image.fromarray(picture(3)).convert(mode).save(path, "JPEG", **options)
        assert number_in(read_image(str(path))[1]) == 3


def test_most_images_decide_the_size(tmp_path: Path) -> None:
    source = open_frames(f"images:{case('18-stray-first-image').glob('*/').__next__()}")
    refs = source.refs()
    with pytest.raises(FrameError, match="most of its sequence"):
        source.read(next(ref for ref in refs if "cover" in ref.path))
    assert [number_in(source.read(ref).image) for ref in refs if "cover" not in ref.path] == [
        0,
        1,
        2,
    ]


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    image = picture(9)
    deep = image.astype(np.uint16)
    for name, stored in (("12.png", deep * 16 + 7), ("16.png", deep * 257), ("12.tif", deep * 16)):
        cv2.imwrite(str(tmp_path / name), stored[..., ::-1])
        np.testing.assert_array_equal(read_image(str(tmp_path / name))[1], image)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), picture(0)[..., 0].astype(np.float32) / 255)
    with pytest.raises(FrameError, match="cannot be decoded as an image"):
        read_image(str(path))


def huge_png(depth: int, colour: int, side: int = 30_000) -> bytes:
    """Announces 900 million pixels, and brings the first lines of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    lines = zlib.compress(bytes(1 << 20))
    kinds = ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*kind) for kind in kinds)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (16, 0), (16, 2), (8, 3)])
@pytest.mark.parametrize("side", [9_000, 30_000])
def test_every_decoder_refuses_too_many_pixels(
    tmp_path: Path, depth: int, colour: int, side: int
) -> None:
    assert side * side > MAX_PIXELS
    path = tmp_path / "a.png"
    path.write_bytes(huge_png(depth, colour, side))
    for read in (read_image, read_label_map):
        with pytest.raises(FrameError, match="scale it down"):
            read(str(path))


def test_a_depth_map_of_too_many_pixels(tmp_path: Path) -> None:
    image = tmp_path / "images" / "0.png"
    image.parent.mkdir()
    cv2.imwrite(str(image), picture(0))
    frame = read_all(image.parent)[0]
    path = tmp_path / "depth" / f"{frame.ref.frame_id}.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(huge_png(16, 0))
    depth = open_depth(f"precomputed:{tmp_path / 'depth'}")
    with pytest.raises(FrameError, match="pixels: scale the depth map down"):
        depth([frame])


def test_gaps_by_the_number_that_varies() -> None:
    day, later = 1533151603512404, 1532402927612460
    nuscenes = [f"n008-2018-08-01__CAM_FRONT__{day + 83333 * i}" for i in range(4)]
    nuscenes += [f"n015-2018-07-24__CAM_FRONT__{later + 83333 * i}" for i in range(4)]
    apollo = [f"171206_0345{i}_Camera_5" for i in (59609, 59709, 59809, 91009, 91109, 91209)]
    for names, last in ((nuscenes, 3), (apollo, 2)):
        steps = np.diff(frame_indices(names))
        assert steps[last] > 100 and set(np.delete(steps, last)) == {1}
    seconds = [f"cam_{s}_{n:09d}" for s, n in ((7, 8 * 10**8), (7, 9 * 10**8), (8, 0), (8, 10**8))]
    assert frame_indices(seconds) == [0, 1, 2, 3]
    both = [f"f{i:04d}_{1000 + 40 * i}" for i in (0, 1, 2, 5)]
    assert frame_indices(both) == [0, 1, 2, 5]
    assert frame_indices(["5", "5b", "6"]) == [0, 1, 2]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/dr\xefve"
    os.mkdir(folder)  # noqa: PTH102
    for number in range(3):
        name = folder + b"/\xfc%d.png" % number
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(cv2.imencode(".png", picture(number)[..., ::-1])[1].tobytes())
    frames = read_all(tmp_path)
    assert [number_in(frame.image) for frame in frames] == [0, 1, 2]
    for frame in frames:
        (frame.ref.frame_id + frame.ref.path).encode()
        assert "\\xef" in frame.ref.sequence


def test_other_files_are_counted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    (tmp_path / "gps.csv").write_text("1,2")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    source: Any = open_frames(f"images:{tmp_path}")
    assert source.notes() == ["2 of 3 files passed over: 1 .mp4, 1 .csv (no image)"]


def test_camvid_colour_maps(tmp_path: Path) -> None:
    colours = np.array(
        [
            [(128, 128, 128), (192, 0, 128), (64, 192, 128)],
            [(192, 192, 0), (192, 0, 192), (0, 0, 0)],
        ],
        np.uint8,
    )
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "0016E5_07959.png")
    label = tmp_path / "labels" / "0016E5_07959_L.png"
    Image.fromarray(colours).save(label)
    source = open_frames(f"camvid:{tmp_path}")
    frame = source.read(source.refs()[0])
    assert frame.labels is not None
    assert frame.labels.tolist() == [[0, 1, 4], [5, 10, IGNORE]]
    colours[0, 0] = 1
    Image.fromarray(colours).save(label)
    with pytest.raises(FrameError, match=r"_L\.png has pixels of colour \(1, 1, 1\)"):
        source.read(source.refs()[0])
