"""Run a trained network over video: overlay videos or label maps as PNG files.

Classes have names where the network saw labels: of cpcdr finetune, or of cpcdr probe. Run the same
command again after a stop: complete parts, of 500 frames each, are not done again.

Examples:
  cpcdr segment --network runs/finetune/checkpoint --frames video:drive.mp4 \\
      --out segmented.mp4
  cpcdr segment --network runs/pretrain/probe --frames video:drive.mp4 \\
      --out segmented.mp4
  cpcdr segment --network models:/cpcdr@champion --frames video:drives/ \\
      --out runs/labels --labels
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpcdr.frames import FrameRef, FrameSource, frame_rates_of, notes_of, open_frames
from cpcdr.frames.decode import encode_jpeg
from cpcdr.frames.digest import frames_digest
from cpcdr.runtime.checkpoint import CONFIG, weights_digest
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.durable import file_digest
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.map_frames import map_frames, warmup_of
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.models import find_checkpoint
from cpcdr.segment.config import SegmentConfig
from cpcdr.segment.load import LoadedNetwork, load_network_for_use
from cpcdr.segment.parts import FRAMES_OF_A_PART, Part, Parts, Record
from cpcdr.segment.writers import LabelFiles, OverlayVideo, encode_ids
from cpcdr.visualize.pictures import legend, save_png


class SegmentVideo:
    """An actor for `map_frames`: frame references to encoded pictures."""

    def __init__(self, config: SegmentConfig, checkpoint: Path, source: FrameSource) -> None:
        self.config, self.source = config, source
        self.network: LoadedNetwork = load_network_for_use(checkpoint, config.clusters)

    def __call__(self, table: pa.Table) -> pa.Table:
        """``picture``: JPEG of the overlay or PNG of the classes; ``reason`` if there is none."""
        rows, images = list[dict[str, Any]](), list[NDArray[np.uint8]]()
        for ref in (FrameRef(**row) for row in table.to_pylist()):
            rows.append({"frame_id": ref.frame_id, "picture": b""})
            try:
                images.append(self.source.read(ref).image)
                rows[-1]["reason"] = ""
            except FrameError as error:
                rows[-1]["reason"] = str(error)
        seen = [row for row in rows if not row["reason"]]
        for row, picture in zip(seen, self._pictures(images), strict=True):
            row["picture"] = picture
        return pa.Table.from_pylist(rows)

    def _pictures(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[bytes]:
        if self.config.labels:
            for ids in self.network.segment_all(images):
                yield encode_ids(ids, self.network.colours)
        else:
            yield from map(encode_jpeg, self.network.overlays(images, self.config.opacity))


def segment(config: SegmentConfig) -> dict[str, Any]:
    """Segment every frame, in order, or those that a stopped command has left.

    Returns:
        ``out``, ``frames``, ``rejected``, ``frames_per_second`` (0 where it was not measured),
        ``classes``.

    Raises:
        InputError: model or frames cannot be used, or nothing could be written.
    """
    _make_folder(config)  # its sentences are about videos too
    with hold(config.out, is_file=config.one_video):
        return _segment(config)


def _segment(config: SegmentConfig) -> dict[str, Any]:
    start = time.perf_counter()
    checkpoint = find_checkpoint(config.network)
    source = open_frames(config.frames, config.options)
    network = load_network_for_use(checkpoint, config.clusters)
    for note in notes_of(source):
        print(f"{note}.")
    parts = Parts(config, source.refs(), frame_rates_of(source), _key(config, checkpoint, source))
    below = cache(partial(legend, network.names, network.colours)) if config.legend else None
    with parts.kept():
        save_png(_legend_path(config), legend(network.names, network.colours))
        seconds = _write(config, parts, (config, checkpoint, source), below)
        done = sum(record.frames for record in parts.records)
        if not done:
            _legend_path(config).unlink()
            raise InputError(f"{config.frames}: no frame could be segmented.")
    what = "labels" if config.labels else "video" if config.one_video else "videos"
    end_with(
        {what: config.out, "legend": _legend_path(config)},
        ["export", "--network", config.network, "--out", "model.onnx"],
    )
    return {
        "out": str(config.out),
        "frames": done,
        "rejected": sum(record.rejected for record in parts.records),
        "frames_per_second": round(1 / seconds, 2) if seconds else 0.0,
        "classes": list(network.names),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _write(
    config: SegmentConfig,
    parts: Parts,
    arguments: tuple[Any, ...],
    below: Callable[[int], NDArray[np.uint8]] | None,
) -> float:
    """Segment the parts that are left: seconds for a frame after the first, 0 if none is."""
    left = [ref for part in parts.left for ref in part.refs]
    total = sum(len(part.refs) for part in parts.all)
    if left and len(left) < total:
        print(f"{config.out}: continued after {total - len(left)} of {total} frames.")
    rows = map_frames(
        SegmentVideo, arguments, left, config.engine, config.workers, ordered=True, most=8
    )
    warmup, first = warmup_of(config.engine), 0.0
    with Progress(
        total=total, initial=total - len(left), desc="segment", unit="frame", warmup=warmup
    ) as bar:
        for part in parts.left:
            done = 0
            with _writer(config, parts, part, below) as writer:
                for row in islice(rows, len(part.refs)):
                    first = first or time.perf_counter()
                    bar.update()
                    if row["reason"]:
                        print(f"left out: {row['reason']}")
                        continue
                    writer.add(row["frame_id"], row["picture"])
                    done += 1
            parts.add(Record(done, len(part.refs) - done, writer.size))
    return (time.perf_counter() - first) / (len(left) - 1) if len(left) > 1 else 0.0


def _writer(
    config: SegmentConfig,
    parts: Parts,
    part: Part,
    below: Callable[[int], NDArray[np.uint8]] | None,
) -> LabelFiles | OverlayVideo:
    if config.labels:
        return LabelFiles(config.out)
    return OverlayVideo(parts.file(part), part.fps, parts.size, below)


def _key(config: SegmentConfig, checkpoint: Path, source: FrameSource) -> str:
    """A digest of everything that the output depends on."""
    inputs = {
        "network": [weights_digest(checkpoint), file_digest(checkpoint / CONFIG)],
        "frames": frames_digest(source) or config.frames,
        "options": to_plain(config.options),
        "parts": FRAMES_OF_A_PART,
    }
    own = ("labels", "clusters", "legend", "opacity", "fps")
    return config_hash({**inputs, **{name: getattr(config, name) for name in own}})


def _legend_path(config: SegmentConfig) -> Path:
    """Beside the one video with its name, as several may lie there."""
    out = config.out
    return out.with_name(f"{out.stem}-legend.png") if config.one_video else out / "legend.png"


def _make_folder(config: SegmentConfig) -> None:
    """Make the folder that everything is written into."""
    folder = config.out.parent if config.one_video else config.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {config.out}: {folder} cannot be a folder ({error.strerror}); choose another."
        ) from error
    if config.one_video and config.out.is_dir():
        raise InputError(f"--out {config.out}: is a folder; choose another name for the video.")
