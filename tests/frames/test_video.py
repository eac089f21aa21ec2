"""Videos: exact random access, true frame counts, broken files."""

import pickle
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.frames import FrameOptions, open_frames
from cpcdr.frames.decode import decode_image
from cpcdr.runtime.errors import FrameError, InputError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

FRAMES = 40


def write_video(path, fourcc="mp4v", frames=FRAMES):
    """Each frame shows its index: a bright bar at column 2 * index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 10, (96, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {fourcc}")
    for index in range(frames):
        image = np.full((48, 96, 3), 40, np.uint8)
        image[:, 2 * index : 2 * index + 6] = 220
        writer.write(image)
    writer.release()
    return path


def shown_index(image):
    weight = np.clip(image[..., 1].astype(float).mean(0) - 80, 0, None)
    return round(((np.arange(96) * weight).sum() / weight.sum() - 2.5) / 2)


def index_first(mp4):
    """The MP4 with its index (moov) before its data, as cameras and web servers store it."""
    data, boxes, at = mp4.read_bytes(), [], 0
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        boxes.append((data[at + 4 : at + 8], data[at : at + size]))
        at += size
    moov = bytearray(next(body for kind, body in boxes if kind == b"moov"))
    table = moov.index(b"stco")
    count = struct.unpack(">I", moov[table + 8 : table + 12])[0]
    for entry in range(table + 12, table + 12 + 4 * count, 4):
        (offset,) = struct.unpack(">I", moov[entry : entry + 4])
        moov[entry : entry + 4] = struct.pack(">I", offset + len(moov))
    rest = b"".join(body for kind, body in boxes if kind not in (b"moov", b"ftyp"))
    mp4.write_bytes(boxes[0][1] + bytes(moov) + rest)
    return mp4


@pytest.mark.parametrize(
    ("name", "fourcc"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "XVID"), ("b.mkv", "FFV1")]
)
def test_random_access_equals_sequential_reading(tmp_path, name, fourcc):
    path = write_video(tmp_path / name, fourcc)
    source = open_frames(f"video:{path}")
    refs = source.refs()
    assert [ref.frame_id for ref in refs] == [f"{path.stem}/{i:08d}" for i in range(FRAMES)]
    frames = [source.read(ref) for ref in refs]
    assert [shown_index(frame.image) for frame in frames] == list(range(FRAMES))
    for index in [39, 0, 20, 20, 3, 38, 37, 1, 25]:
        assert source.read(refs[index]).encoded == frames[index].encoded


def test_a_frame_is_the_decoded_jpeg(tmp_path):
    source = open_frames(f"video:{write_video(tmp_path / 'a.mp4')}")
    frame = source.read(source.refs()[5])
    assert frame.encoded.startswith(b"\xff\xd8")
    np.testing.assert_array_equal(decode_image(frame.encoded, "x"), frame.image)
    assert frame.image.shape == (48, 96, 3)


def test_folder_of_videos_names_sequences_by_relative_path(tmp_path):
    write_video(tmp_path / "mon" / "a.mp4", frames=3)
    write_video(tmp_path / "mon" / "a.avi", "MJPG", frames=2)
    write_video(tmp_path / "b.mp4", frames=2)
    (tmp_path / "mon" / "c.mp4").write_bytes(b"cut off")
    source = open_frames(f"video:{tmp_path}")
    refs = source.refs()
    assert [ref.frame_id for ref in refs] == [
        "b/00000000",
        "b/00000001",
        "mon/a.avi/00000000",
        "mon/a.avi/00000001",
        "mon/a.mp4/00000000",
        "mon/a.mp4/00000001",
        "mon/a.mp4/00000002",
        "mon/c/00000000",
    ]
    source.read(refs[6])
    with pytest.raises(FrameError, match=r"c\.mp4"):
        source.read(refs[-1])


def test_stride_and_limit_read_the_right_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    source = open_frames(f"video:{path}", FrameOptions(stride=4, limit=5))
    shown = [(ref.frame_index, shown_index(source.read(ref).image)) for ref in source.refs()]
    assert shown == [(i, i) for i in (0, 8, 16, 24, 32)]


def test_the_pickle_has_no_capture(tmp_path):
    source = open_frames(f"video:{write_video(tmp_path / 'a.mp4')}")
    frame = source.read(source.refs()[7])
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(copy.refs()[7]).encoded == frame.encoded


def test_a_replaced_file_is_read_anew(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    source = open_frames(f"video:{path}")
    source.read(source.refs()[0])
    write_video(path, frames=7)
    assert len(source.refs()) == 7
    assert shown_index(source.read(source.refs()[6]).image) == 6


def test_an_mp4_without_its_index_is_an_input_error(tmp_path, capfd):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.mp4 cannot be opened as a video") as error:
        open_frames(f"video:{path}")
    assert not isinstance(error.value, FrameError)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"not a video"])
def test_empty_and_foreign_files(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4"):
        open_frames(f"video:{path}")


@pytest.mark.parametrize(("name", "fourcc"), [("a.mp4", "mp4v"), ("a.avi", "MJPG")])
def test_a_video_cut_in_the_middle_loses_its_end_frame_by_frame(tmp_path, name, fourcc):
    path = write_video(tmp_path / name, fourcc)
    if name == "a.mp4":
        index_first(path)
    whole = open_frames(f"video:{path}")
    expected = [whole.read(ref).encoded for ref in whole.refs()]
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.75)])
    source = open_frames(f"video:{cut}")
    refs = source.refs()
    assert len(refs) == FRAMES
    read = []
    for ref in refs:
        try:
            read.append(source.read(ref).encoded)
        except FrameError as error:
            assert re.search("cut off|is damaged", str(error))
    assert 5 < len(read) < FRAMES
    assert read == expected[: len(read)]


@pytest.mark.slow
def test_real_video_with_distant_key_frames():
    path = DATA / "kitti" / "kitti_city.mp4"
    if not path.exists():
        pytest.skip("no kitti_city.mp4 in shared/data")
    source = open_frames(f"video:{path}", FrameOptions(intrinsics="721.54,721.54,609.56,172.85"))
    refs = source.refs()
    assert (len(refs), refs[-1].frame_id) == (268, "kitti_city/00000267")
    forward = {index: source.read(refs[index]).encoded for index in (3, 30, 252, 267)}
    for index in (267, 30, 252, 3):
        assert source.read(refs[index]).encoded == forward[index]
