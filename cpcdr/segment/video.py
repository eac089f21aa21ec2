"""Segmenting whole recordings as a Ray Data job: overlay videos, or label maps as PNG files."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cpcdr.errors import FrameError, InputError
from cpcdr.frames import FrameOptions, FrameRef, FrameSource, open_frames
from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.stored import IMAGE_SUFFIXES
from cpcdr.frames.video import VIDEO_SUFFIXES
from cpcdr.progress import Progress
from cpcdr.segment.load import CLUSTERS, LoadedNetwork, find_checkpoint, load_network_for_use
from cpcdr.session import ray_session
from cpcdr.visualize import legend, save_png

_FRAMES_WORTH_AN_ACTOR = 64
_MEDIA = (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, ".gif")


@dataclass(frozen=True)
class SegmentConfig:
    """Run a trained network over video.

    Attributes:
        model: checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        frames: ``KIND:PATH`` of what is segmented.
        out: ``NAME.mp4`` for one overlay video, or a folder: an overlay video for each sequence.
        labels: write the classes into the folder instead, as 8-bit PNG files: ids, with a palette.
        clusters: how many clusters a network has that has seen no label.
        opacity: of the class colours over the frame.
        fps: frames a second of the videos.
        workers: actors; 0: one for each GPU, or for each core.
        engine: ``ray`` or ``local``.
    """

    model: str = "runs/demo/seed-0/pretrain/checkpoint"
    frames: str = "synthetic:seed=1000,streets=1,frames=60,height=192,width=384"
    out: Path = Path("runs/segmented.mp4")
    labels: bool = False
    clusters: int = CLUSTERS
    opacity: float = 0.5
    fps: float = 15.0
    workers: int = 0
    engine: str = "ray"
    options: FrameOptions = field(default_factory=FrameOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1 or self.fps <= 0:
            raise InputError("--opacity must lie in 0..1 and --fps must be positive.")
        if self.engine not in ("ray", "local"):
            raise InputError(f"--engine '{self.engine}' is unknown; choose ray or local.")
        if self.workers < 0:
            raise InputError(f"--workers {self.workers} must not be negative; 0 chooses.")
        suffix = self.out.suffix.lower()
        if self.labels and suffix in _MEDIA:
            raise InputError(f"--out {self.out}: give a folder for the label maps.")
        if suffix in _MEDIA and not self.one_video:
            raise InputError(
                f"--out {self.out}: {suffix} files are not written; give NAME.mp4 or a folder."
            )

    @property
    def one_video(self) -> bool:
        """Whether all goes into one file; a folder may have any other name, such as ``seg-1.5``."""
        return self.out.suffix.lower() == ".mp4"


class SegmentFrames:
    """A Ray Data actor: frame references to encoded pictures."""

    def __init__(self, config: SegmentConfig, checkpoint: Path, source: FrameSource) -> None:
        self.config, self.source = config, source
        self.network: LoadedNetwork = load_network_for_use(checkpoint, config.clusters)

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self.one(FrameRef(**row)) for row in table.to_pylist()])

    def one(self, ref: FrameRef) -> dict[str, Any]:
        """``picture``: JPEG of the overlay or PNG of the classes; ``reason`` if there is none."""
        row = {"sequence": ref.sequence, "frame_id": ref.frame_id, "picture": b"", "reason": ""}
        try:
            image = self.source.read(ref).image
        except FrameError as error:
            return row | {"reason": str(error)}
        if self.config.labels:
            encoded = encode_ids(self.network.segment(image), self.network.colours)
        else:
            encoded = encode_jpeg(self.network.overlay(image, self.config.opacity))
        return row | {"picture": encoded}


def encode_ids(ids: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a label map uint8 [H, W]: the ids are indices of a palette uint8 [K, 3] RGB."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", bits=8)
    return encoded.getvalue()


def segment(config: SegmentConfig) -> dict[str, Any]:
    """Segment every frame, in order.

    Returns:
        ``out``, ``frames``, ``rejected``, ``frames_per_second``, ``classes``.

    Raises:
        InputError: model or frames cannot be used, or nothing could be written.
    """
    start = time.perf_counter()
    checkpoint = find_checkpoint(config.model)
    source = open_frames(config.frames, config.options)
    network = load_network_for_use(checkpoint, config.clusters)
    refs, rejected, first, done = source.refs(), 0, 0.0, 0
    folder = _made_folder(config)
    writer = LabelFiles(folder) if config.labels else OverlayVideos(config)
    with Progress(total=len(refs), desc="segment", unit="frame") as bar:
        for row in _stream(config, checkpoint, source, refs):
            first = first or time.perf_counter()
            bar.update()
            if row["reason"]:
                rejected += 1
                Progress.write(f"left out: {row['reason']}")
                continue
            writer.add(row["sequence"], row["frame_id"], row["picture"])
            done += 1
    writer.close()
    if not done:
        raise InputError(f"{config.frames}: no frame could be segmented.")
    save_png(folder / "legend.png", legend(network.names, network.colours))
    elapsed = time.perf_counter()
    return {
        "out": str(config.out),
        "frames": done,
        "rejected": rejected,
        "frames_per_second": round((done - 1) / max(1e-9, elapsed - first), 2),
        "classes": list(network.names),
        "seconds": round(elapsed - start, 1),
    }


def _made_folder(config: SegmentConfig) -> Path:
    """The folder that everything is written into."""
    folder = config.out.parent if config.one_video else config.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {config.out}: {folder} cannot be a folder ({error.strerror}); choose another."
        ) from error
    if config.one_video and config.out.is_dir():
        raise InputError(f"--out {config.out}: is a folder; choose another name for the video.")
    return folder


def _stream(
    config: SegmentConfig, checkpoint: Path, source: FrameSource, refs: list[FrameRef]
) -> Iterator[dict[str, Any]]:
    """Rows of `SegmentFrames` in the order of the frames."""
    if config.engine == "local":
        actor = SegmentFrames(config, checkpoint, source)
        yield from map(actor.one, refs)
        return
    with ray_session():
        import ray.data
        from ray.data import ActorPoolStrategy

        gpus = int(ray.cluster_resources().get("GPU", 0))
        cores = min(os.cpu_count() or 1, -(-len(refs) // _FRAMES_WORTH_AN_ACTOR))
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        table = pa.Table.from_pylist([vars(ref) for ref in refs])
        blocks = [table.slice(at, 8) for at in range(0, len(refs), 8)]
        dataset = ray.data.from_arrow(blocks).map_batches(
            SegmentFrames,
            fn_constructor_args=(config, checkpoint, source),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=config.workers or gpus or cores),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        try:
            yield from dataset.iter_rows()
        finally:
            context.execution_options.preserve_order = False


class OverlayVideos:
    """One mp4 for everything, or one for each sequence in a folder; each appears when whole."""

    def __init__(self, config: SegmentConfig) -> None:
        self.config = config
        self.writer: cv2.VideoWriter | None = None
        self.path, self.size = Path(), (0, 0)

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Append a frame; sequences come one after the other."""
        out = self.config.out
        path = out if self.config.one_video else out / f"{sequence.replace('/', '-')}.mp4"
        image = decode_image(picture, frame_id)
        if path != self.path:
            self.close()
            self._open(path, image)
        assert self.writer is not None
        height, width = self.size
        if image.shape[:2] != self.size:
            image = cv2.resize(image, (width, height)).astype(np.uint8)
        self.writer.write(np.ascontiguousarray(image[:height, :width, ::-1]))

    def _open(self, path: Path, image: NDArray[np.uint8]) -> None:
        self.path, self.size = path, (image.shape[0], image.shape[1])
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self.writer = cv2.VideoWriter(
            str(self._partial()), fourcc, self.config.fps, self.size[::-1]
        )
        if not self.writer.isOpened():
            raise InputError(f"{path}: cannot be written as a video; choose another folder.")

    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.partial.mp4")

    def close(self) -> None:
        """Finish the open video and give it its name."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            with suppress(FileNotFoundError):
                self._partial().replace(self.path)


class LabelFiles:
    """``{sequence}/{frame_index:08d}.png`` in a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def add(self, sequence: str, frame_id: str, picture: bytes) -> None:
        """Write a frame's classes."""
        path = self.out / f"{frame_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)

    def close(self) -> None:
        """Nothing is open."""
