"""Videos that browsers play."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cpcdr.frames.decode import encode_jpeg
from cpcdr.runtime.errors import InputError
from cpcdr.segment.mp4 import Mp4, join
from cpcdr.segment.writers import OverlayVideo

COLOURS = np.array([[200, 40, 60], [30, 160, 90], [40, 60, 210], [240, 240, 20]], np.uint8)


def four_fields(height: int, width: int) -> np.ndarray:
    ids = np.zeros((height, width), int)
    ids[height // 2 :] += 2
    ids[:, width // 2 :] += 1
    return COLOURS[ids]


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("size", [(96, 160), (95, 161)])
def test_a_video_is_what_browsers_play(tmp_path: Path, size: tuple[int, int]) -> None:
    image, path = four_fields(*size), tmp_path / "a.mp4"
    video = Mp4(path, size, 30000 / 1001)
    for _ in range(5):
        video.add(image)
    assert not path.exists(), "a reader sees no half a video"
    video.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) in {(n, "yuv420p") for n in ("vp9", "libvpx-vp9")}
        assert stream.average_rate == Fraction(30000, 1001) and stream.frames == 5
        assert context.colorspace == 1 and context.color_range == 1, "BT.709, limited range"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "it plays before it is loaded"
    frames = decoded(path)
    padded = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), "edge")
    assert len(frames) == 5 and frames[0].shape == padded.shape, "odd sizes are padded, not cropped"
    assert np.abs(frames[4].astype(int) - padded).mean() < 3


def test_its_colours_are_those_of_the_pictures(tmp_path: Path) -> None:
    video = Mp4(tmp_path / "a.mp4", (64, 64), 10)
    video.add(four_fields(64, 64))
    video.close()
    frame = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1][..., ::-1].astype(int)
    seen = frame[[[16, 16], [48, 48]], [[16, 48], [16, 48]]].reshape(4, 3)
    assert np.abs(seen - COLOURS).max() <= 4


def test_a_video_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    picture = encode_jpeg(four_fields(64, 64))
    with pytest.raises(KeyboardInterrupt), OverlayVideo(tmp_path / "a.mp4", 15.0) as writer:
        writer.add("s/0", picture)
        assert [p.name for p in tmp_path.iterdir()] == [".a.partial.mp4"]
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_parts_are_joined_frame_by_frame(tmp_path: Path) -> None:
    fps, lengths, parts = 30000 / 1001, (5, 1, 40), list[Path]()
    pictures = [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(sum(lengths))]
    rest = iter(pictures)
    for number, length in enumerate(lengths):
        parts.append(tmp_path / f"{number}.mp4")
        video = Mp4(parts[-1], (48, 64), fps)
        for _ in range(length):
            video.add(next(rest))
        video.close()
    join(parts, tmp_path / "whole.mp4", fps)
    frames = decoded(tmp_path / "whole.mp4")
    assert len(frames) == len(pictures)
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 3
    with av.open(str(tmp_path / "whole.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.codec_context.colorspace == 1
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [number * Fraction(1001, 30000) for number in range(len(pictures))]
    data = (tmp_path / "whole.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "it plays before it is loaded"
    parts[1].write_bytes(b"torn")
    with pytest.raises(InputError, match=r"torn\.mp4: its parts cannot be joined .* delete "):
        join(parts, tmp_path / "torn.mp4", fps)
    assert not (tmp_path / "torn.mp4").exists() and not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/a\.mp4: cannot be written as a VP9 video"):
        Mp4(tmp_path / "nowhere" / "a.mp4", (64, 64), 10)


def test_a_picture_of_another_size_is_scaled_and_its_legend_is_not(tmp_path: Path) -> None:
    black = np.zeros((24, 64, 3), np.uint8)
    out = tmp_path / "a.mp4"
    with OverlayVideo(out, 15.0, legend=lambda width: black) as writer:
        for size in ((64, 64), (128, 96)):
            writer.add("s/0", encode_jpeg(np.full((*size, 3), 200, np.uint8)))
    for frame in decoded(out):
        assert frame.shape == (88, 64, 3)
        assert frame[:60].min() > 180 and frame[68:].max() < 20


def test_a_legend_is_drawn_below_the_picture(tmp_path: Path) -> None:
    def below(width: int) -> np.ndarray:
        assert width == 64
        return np.full((24, 100, 3), (200, 40, 60), np.uint8)

    for legend, shape in ((below, (88, 100, 3)), (None, (64, 64, 3))):
        out = tmp_path / f"{legend is None}.mp4"
        with OverlayVideo(out, 15.0, legend=legend) as writer:
            writer.add("s/0", encode_jpeg(four_fields(64, 64)))
        (frame,) = decoded(out)
        assert frame.shape == shape
        if legend is not None:
            assert np.abs(frame[68:84, 4:96].astype(int) - [200, 40, 60]).max() < 8
            assert frame[4:60, 70:].min() > 245, "white beside a picture that is narrower"
