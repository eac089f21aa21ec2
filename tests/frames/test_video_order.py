"""Picture i is at index i, whatever the codec, the container and the order of reading."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbered import corners, number_in, picture, read_numbers, write_numbered

from cpcdr.frames import FrameOptions, FrameSource, open_frames
from cpcdr.frames.decode import encode_jpeg
from cpcdr.frames.video_decoder import Decoder
from cpcdr.runtime.errors import FrameError, InputError

ORDERS = ("forward", "backward", "random")
QUIET = {"x265-params": "log-level=none"}
INTERLACED = 0x00040000 | 0x20000000  # of motion estimation and of DCT


def interlaced(context: Any) -> None:
    context.flags |= INTERLACED


KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"b_frames": 3},
    "fragmented.mp4": {
        "b_frames": 3,
        "container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    },
    "negative.mp4": {"b_frames": 3, "container_options": {"movflags": "negative_cts_offsets"}},
    "open.mp4": {"b_frames": 3, "codec_options": {"x264-params": "open-gop=1"}},
    "open.ts": {"b_frames": 3, "codec_options": {"x264-params": "open-gop=1"}},
    "wrap.ts": {"b_frames": 3, "container_options": {"output_ts_offset": "95443.0"}},
    "refresh.ts": {
        "gop": 10,
        "codec_options": {"x264-params": "intra-refresh=1", "tune": "zerolatency"},
    },
    "pyramid.mkv": {"b_frames": 8, "codec_options": {"x264-params": "b-adapt=0:b-pyramid=normal"}},
    "a.flv": {"b_frames": 2},
    "a.m2ts": {"b_frames": 2},
    "h264.avi": {"b_frames": 2},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "raw.h264": {"b_frames": 2},
    "raw.hevc": {"codec": "libx265", "b_frames": 2, "codec_options": QUIET},
    "hevc10.mp4": {
        "codec": "libx265",
        "pixels": "yuv420p10le",
        "b_frames": 2,
        "codec_options": QUIET,
    },
    "fields.ts": {"codec": "mpeg2video", "b_frames": 2, "adjust": interlaced},
    "ps.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "mpeg1.mpg": {"codec": "mpeg1video", "b_frames": 1, "gop": 14, "size": (160, 128)},
    "ps.vob": {"codec": "mpeg2video", "b_frames": 2, "adjust": interlaced},
    "broadcast.mxf": {"codec": "mpeg2video", "b_frames": 2, "rate": 25},
    "dv.avi": {"codec": "dvvideo", "size": (720, 576), "rate": 25},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": {"lag-in-frames": "10"}},
    "vp8.webm": {"codec": "libvpx"},
    "av1.mkv": {"codec": "libsvtav1", "codec_options": {"preset": "12"}},
    "motion.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "intra.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "lossless.mkv": {"codec": "ffv1"},
    "a.wmv": {"codec": "wmv2"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_container_and_codec_in_every_order(tmp_path: Path, name: str) -> None:
    source = open_frames(f"video:{write_numbered(tmp_path / name, range(30), **KINDS[name])}")
    if name != "mpeg1.mpg":  # FFmpeg guesses some of its times, one of them a picture too late
        assert [ref.frame_index for ref in source.refs()] == list(range(30))
    for order in ORDERS:
        assert read_numbers(source, order) == list(range(30)), order


@settings(max_examples=18, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([("libx264", "mkv"), ("libx264", "avi"), ("libx264", "ts")])
    | st.sampled_from([("mpeg4", "avi"), ("mpeg4", "mp4"), ("mpeg2video", "ts")])
    | st.sampled_from([("libx265", "mp4"), ("libx265", "hevc"), ("libvpx-vp9", "webm")]),
    frames=st.integers(1, 50),
    gop=st.integers(1, 25),
    b_frames=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_random_structures(
    tmp_path_factory: pytest.TempPathFactory,
    kind: tuple[str, str],
    frames: int,
    gop: int,
    b_frames: int,
    seed: int,
) -> None:
    codec, suffix = kind
    path = tmp_path_factory.mktemp("random") / f"a.{suffix}"
    shape: dict[str, Any] = {"size": (160, 120), "gop": gop}
    if codec != "libvpx-vp9":
        shape["b_frames"] = b_frames
    if codec == "libx265":
        shape["codec_options"] = QUIET
    write_numbered(path, range(frames), codec, **shape)
    source = open_frames(f"video:{path}")
    refs = source.refs()
    assert len(refs) == frames
    for place in np.random.default_rng(seed).integers(0, frames, 30):
        assert number_in(source.read(refs[place]).image) == place


def test_several_threads_decode_what_one_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / "a.mp4", range(40), b_frames=3)
    one = _encoded(open_frames(f"video:{path}"))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    copy = tmp_path / "b.mp4"
    copy.write_bytes(path.read_bytes())
    assert _encoded(open_frames(f"video:{copy}")) == one


def _encoded(source: FrameSource) -> list[bytes]:
    return [source.read(ref).encoded for ref in source.refs()]


def test_jumps_go_to_the_key_frame_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture costs its group of pictures at most, however long the video is."""
    path = write_numbered(tmp_path / "a.mp4", range(300), gop=10, size=(160, 120))
    source = open_frames(f"video:{path}")
    refs, fed = source.refs(), []
    feed = Decoder._feed
    monkeypatch.setattr(Decoder, "_feed", lambda self: fed.append(1) or feed(self))
    for place in (295, 3, 150, 77):
        assert number_in(source.read(refs[place]).image) == place
    assert len(fed) < 4 * 15


def test_a_frame_rate_that_changes_and_times_that_jitter(tmp_path: Path) -> None:
    times = [0, 34, 66, 101, 133, 166, 200, 400, 433, 467]
    source = open_frames(f"video:{write_numbered(tmp_path / 'a.mkv', range(10), times_ms=times)}")
    assert [r.frame_index for r in source.refs()] == [0, 1, 2, 3, 4, 5, 6, 12, 13, 14]
    assert read_numbers(source) == list(range(10))


def test_the_nominal_rate_is_known(tmp_path: Path) -> None:
    for name, rate in (("a.mp4", 30), ("b.mkv", 25), ("c.ts", 10), ("d.avi", 20)):
        path = write_numbered(tmp_path / name, range(20), rate=rate, size=(160, 120))
        source: Any = open_frames(f"video:{path}", FrameOptions(stride=2))
        assert source.frame_rates() == {path.stem: rate / 2}
        few: Any = open_frames(f"video:{path}", FrameOptions(stride=2, limit=5))
        assert few.frame_rates() == {path.stem: rate / 4}, "a fifth second still lasts as long"


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    def wide(context: Any) -> None:
        context.sample_aspect_ratio = Fraction(4, 3)

    path = write_numbered(tmp_path / "a.mp4", range(3), adjust=wide)
    source: Any = open_frames(f"video:{path}", FrameOptions(fov=90))
    frame = source.read(source.refs()[0])
    assert frame.intrinsics[:2].tolist() == pytest.approx([160, 160 * 4 / 3])
    assert source.notes() == ["pixels 4:3, which intrinsics follow: a"]
    given_camera = FrameOptions(intrinsics="200,200,160,120")
    frame = open_frames(f"video:{path}", given_camera).read(source.refs()[0])
    assert frame.intrinsics.tolist() == [200, 200, 160, 120]


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("full", [1, 2])
def test_colours_follow_the_stream(tmp_path: Path, matrix: int, full: int) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, full
        image = np.full((48, 64, 3), (200, 60, 30), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=full)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_frames(f"video:{path}")
    seen = source.read(source.refs()[0]).image.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(seen, [200, 60, 30], atol=4)


def test_high_dynamic_range_becomes_a_screens(tmp_path: Path) -> None:
    """Grey of 58 % in PQ is reference white: taken as it stands, it would be a dull grey."""

    def hdr10(context: Any) -> None:
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9

    means = []
    for name, adjust in (("sdr.mp4", None), ("hdr.mp4", hdr10)):
        path = write_numbered(
            tmp_path / name,
            range(2),
            "libx265",
            "yuv420p10le",
            codec_options=QUIET,
            adjust=adjust,
        )
        source = open_frames(f"video:{path}")
        frame = source.read(source.refs()[0])
        assert number_in(frame.image) == 0
        means.append(frame.image.mean())
    assert means[1] > means[0] + 20


def test_a_turned_video_is_set_upright(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", range(3))
    for degrees, expected in (
        (90, ["green", "grey", "red", "blue"]),
        (180, ["grey", "blue", "green", "red"]),
    ):
        turned = tmp_path / f"turned{degrees}.mp4"
        with av.open(str(path)) as old, av.open(str(turned), "w") as new:
            stream: Any = new.add_stream_from_template(old.streams.video[0])
            stream.set_display_rotation(degrees)
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
        source = open_frames(f"video:{turned}")
        assert corners(source.read(source.refs()[0]).image) == expected


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), ["green", "red", "grey", "blue"]),
        ((1, 0, 0, -1), ["blue", "grey", "red", "green"]),
        ((0, 1, 1, 0), ["red", "blue", "green", "grey"]),
        ((0, -1, -1, 0), ["grey", "green", "blue", "red"]),
        ((0, 1, -1, 0), ["blue", "red", "grey", "green"]),
    ],
)
def test_a_mirrored_video_is_mirrored_back(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: list[str]
) -> None:
    path = write_numbered(tmp_path / "a.mp4", range(2))
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    start = data.find(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    source = open_frames(f"video:{path}")
    assert corners(source.read(source.refs()[0]).image) == expected


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mkv", "libvpx", "yuv420p"),
        ("a.mkv", "libvpx-vp9", "yuv420p"),
    ],
)
def test_a_size_that_changes_begins_a_sequence(
    tmp_path: Path, name: str, codec: str, pixels: str
) -> None:
    wide = write_numbered(tmp_path / "1.mkv", range(10), codec, pixels)
    low = write_numbered(tmp_path / "2.mkv", range(10, 20), codec, pixels, size=(320, 180))
    path = tmp_path / name
    with av.open(str(wide)) as first, av.open(str(low)) as second, av.open(str(path), "w") as new:
        stream: Any = new.add_stream_from_template(first.streams.video[0])
        packets = [p for part in (first, second) for p in part.demux(video=0) if p.size]
        for place, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, Fraction(1, 30)
            packet.pts = packet.dts = place
            new.mux(packet)
    source = open_frames(f"video:{path}")
    assert [ref.sequence for ref in source.refs()] == ["a"] * 10 + ["a@320x180"] * 10
    assert read_numbers(source) == list(range(20))


def test_jpegs_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    path.write_bytes(b"".join(encode_jpeg(picture(number)) for number in range(6)))
    assert read_numbers(open_frames(f"video:{path}")) == list(range(6))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_stream_without_times_has_the_rate_it_states(tmp_path: Path, codec: str) -> None:
    """As dash cameras and openpilot write them: no container, no B-frames."""
    path = tmp_path / f"a.{'hevc' if codec == 'libx265' else 'h264'}"
    params = {"x265-params": "log-level=none:bframes=0"} if codec == "libx265" else {}
    write_numbered(path, range(20), codec, codec_options=params)
    source: Any = open_frames(f"video:{path}")
    assert read_numbers(source, "random") == list(range(20))
    assert 20 <= source.frame_rates()["a"] <= 30


def test_the_main_of_two_tracks_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    parts = [
        write_numbered(tmp_path / "small.mp4", range(100, 110), size=(160, 120)),
        write_numbered(tmp_path / "large.mp4", range(10)),
    ]
    with av.open(str(path), "w") as new:
        opened = [av.open(str(part)) for part in parts]
        streams: list[Any] = [new.add_stream_from_template(p.streams.video[0]) for p in opened]
        for stream in streams:
            stream.disposition = 0
        for old, stream in zip(opened, streams, strict=True):
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
    source: Any = open_frames(f"video:{path}")
    assert read_numbers(source) == list(range(10))
    assert source.notes() == ["2 video tracks, of which number 1 is read: two"]


def test_what_is_not_found_in_a_joined_file_is_said(tmp_path: Path) -> None:
    """MP4 files cannot be joined byte by byte: only the first is found."""
    path = tmp_path / "a.mp4"
    whole = write_numbered(path, range(40), "mjpeg", "yuvj420p", size=(1280, 960)).read_bytes()
    source: Any = open_frames(f"video:{path}")
    assert len(whole) > 1 << 20 and source.notes() == []
    path.write_bytes(whole + whole)
    source = open_frames(f"video:{path}")
    assert len(source.refs()) == 40
    assert source.notes() == [f"no picture is found in its last {len(whole) >> 20} MiB: a"]


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"sound\.mp4 holds no video: it has only sound"):
        open_frames(f"video:{path}")


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.ts", range(5))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list\.mp4"):
        open_frames(f"video:{playlist}")


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "b_frames"),
    [
        ("a.mp4", "libx264", "yuv420p", 2),
        ("a.ts", "libx264", "yuv420p", 2),
        ("b.ts", "mpeg2video", "yuv420p", 2),
        ("c.avi", "mpeg4", "yuv420p", 0),
        ("d.avi", "mjpeg", "yuvj420p", 0),
    ],
)
def test_damage_is_not_taken_for_pictures(
    tmp_path: Path, name: str, codec: str, pixels: str, b_frames: int
) -> None:
    """Bytes are overwritten: what is still read looks as it was recorded."""
    path = write_numbered(tmp_path / name, range(40), codec, pixels, b_frames=b_frames, gop=10)
    whole = open_frames(f"video:{path}")
    truth = [whole.read(ref).image.astype(int) for ref in whole.refs()]
    data = path.read_bytes()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        first = int(rng.integers(len(data) // 4, len(data) - 2000))
        damaged = tmp_path / f"{seed}-{name}"
        noise = bytes(400) if seed % 2 else rng.bytes(400)
        damaged.write_bytes(data[:first] + noise + data[first + 400 :])
        source = open_frames(f"video:{damaged}")
        good = 0
        for ref in source.refs():
            try:
                image = source.read(ref).image
            except FrameError:
                continue
            number = number_in(image)
            assert number is not None and number < 40
            assert np.abs(image - truth[number]).mean() < 6
            good += 1
        assert 20 <= good < 40


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx265"),
        ("a.mkv", "libx265"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.webm", "libvpx"),
        ("a.mkv", "libsvtav1"),
    ],
)
def test_zeros_of_a_failed_disk_are_not_taken_for_pictures(
    tmp_path: Path, name: str, codec: str
) -> None:
    options = {"libx265": QUIET, "libsvtav1": {"preset": "12"}}.get(codec, {})
    path = write_numbered(tmp_path / name, range(40), codec, gop=10, codec_options=options)
    whole = open_frames(f"video:{path}")
    truth = [whole.read(ref).image.astype(int) for ref in whole.refs()]
    data, damaged, rejected = path.read_bytes(), tmp_path / f"damaged-{name}", 0
    for tenth in range(3, 9):
        first = len(data) * tenth // 10
        damaged.write_bytes(data[:first] + bytes(512) + data[first + 512 :])
        os.utime(damaged, (tenth, tenth))
        source = open_frames(f"video:{damaged}")
        for ref, number in zip(source.refs(), read_numbers(source), strict=True):
            rejected += number is None
            if number is not None:
                assert np.abs(source.read(ref).image - truth[number]).mean() < 6
    assert 0 < rejected < 6 * 20


def test_what_precedes_the_first_key_frame_is_rejected(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "a.ts", range(40), gop=12, b_frames=2).read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole[len(whole) // 2 // 188 * 188 :])
    source = open_frames(f"video:{cut}")
    refs = source.refs()
    with pytest.raises(FrameError, match="before the first key frame"):
        source.read(refs[0])
    good = [n for n in read_numbers(source) if n is not None]
    assert good == list(range(good[0], 40)) and good[0] in (24, 36)


SCRIPT = """
import resource, sys
from cpcdr.frames import open_frames
from pathlib import Path
source = open_frames("video:" + sys.argv[1])
refs = source.refs()
marks = []
for place, ref in enumerate(refs):
    source.read(ref)
    if place in (2_000, len(refs) - 1):
        marks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(len(refs), marks[1] - marks[0])
"""


@pytest.mark.slow
def test_memory_stays_flat_over_20000_frames(tmp_path: Path) -> None:
    numbers = [i % 4096 for i in range(20_000)]
    path = write_numbered(tmp_path / "a.mp4", numbers, "mpeg4", size=(64, 48), gop=50)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True
    )
    frames, grown = done.stdout.split()
    assert int(frames) == 20_000 and float(grown) < 16


def test_open_files_are_bounded(tmp_path: Path) -> None:
    for number in range(30):
        write_numbered(tmp_path / f"{number}.mp4", range(2), size=(160, 120))
    source = open_frames(f"video:{tmp_path}")
    for ref in source.refs():
        source.read(ref)
    held = [
        p for p in Path("/proc/self/fd").iterdir() if str(p.resolve()).startswith(str(tmp_path))
    ]
    assert len(held) <= 4
