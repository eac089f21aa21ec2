"""Decoding video: our exact reader beside OpenCV's plain one."""

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from cpcdr.commands.benchmarks.timing import median_seconds
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.frames.video import video_index
from cpcdr.frames.video_reader import VideoReader
from cpcdr.runtime.errors import InputError

_FRAMES, _SIZE, _BLOCK = 160, (1080, 1920), 32


def time_decode(config: BenchmarkConfig) -> dict[str, Any]:
    """Seconds a frame of a 1080p H.264 clip, read in order; the floor is OpenCV, without checks.

    ``clips`` has the same for blocks of 32 frames in random order, as actors read them, and for
    ``--video``. Both decode with as many threads.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = _write_clip(Path(folder) / "1080p.mp4")
        clips = {"1080p": _time_clip(made, config)}
        if config.video is not None:
            if not config.video.is_file():
                raise InputError(f"--video {config.video} does not exist: give a video file.")
            clips[config.video.stem] = _time_clip(config.video.absolute(), config)
    main = clips["1080p"]
    return {
        "seconds": main["in_order"],
        "floor_seconds": main["opencv_in_order"],
        "floor": "OpenCV",
        "clips": clips,
    }


def _time_clip(path: Path, config: BenchmarkConfig) -> dict[str, float]:
    """Seconds a frame by either reader, in order and by blocks, and the ratios of the two."""
    count = len(video_index(path).packets)
    starts = list(range(0, count - _BLOCK + 1, _BLOCK)) or [0]
    random.Random(0).shuffle(starts)
    blocks = [i for start in starts for i in range(start, min(count, start + _BLOCK))]
    times = {}
    for name, indices in (("in_order", list(range(count))), ("blocks", blocks)):
        readers: tuple[tuple[str, Callable[..., None]], ...] = (("", _read), ("opencv_", _opencv))
        for prefix, read in readers:
            seconds = median_seconds(lambda: read(path, indices, config.threads), config)  # noqa: B023
            times[f"{prefix}{name}"] = round(seconds / len(indices), 6)
        times[f"{name}_ratio"] = round(times[name] / times[f"opencv_{name}"], 3)
    return times


def _read(path: Path, indices: list[int], threads: int) -> None:
    index = video_index(path)
    reader = VideoReader(path, index, threads)
    for i in indices:
        reader.read(int(index.frame_indices[i]))


def _opencv(path: Path, indices: list[int], threads: int) -> None:
    parameters = [cv2.CAP_PROP_N_THREADS, threads]
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, parameters)
    at = 0
    for i in indices:
        if i != at:
            capture.set(cv2.CAP_PROP_POS_FRAMES, i)
        good, image = capture.read()
        if good:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        at = i + 1
    capture.release()


def _write_clip(path: Path) -> Path:
    """A textured scene that passes by, with a key frame a second, as a dash camera writes it."""
    with av.open(str(path), "w") as container:
        try:
            stream: Any = container.add_stream("h264", rate=30, options={"g": "30", "bf": "2"})
        except (av.FFmpegError, ValueError) as error:
            raise InputError("benchmark decode needs an H.264 encoder in FFmpeg.") from error
        stream.height, stream.width = _SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 12_000_000
        for frame in _frames():
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _frames() -> Iterator[av.VideoFrame]:
    height, width = _SIZE
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 8, width // 4, 3), dtype=np.uint8)
    scene = cv2.resize(small, (width * 2, height), interpolation=cv2.INTER_CUBIC)
    for i in range(_FRAMES):
        left = 6 * i % width
        view = np.ascontiguousarray(scene[:, left : left + width], np.uint8)
        yield av.VideoFrame.from_ndarray(view, format="rgb24")
