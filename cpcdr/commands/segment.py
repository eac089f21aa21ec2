"""Run a trained network over video: overlay videos or label maps as PNG files.

Classes have names where the network saw labels: of cpcdr finetune, or of cpcdr probe.

Examples:
  cpcdr segment --network runs/finetune/checkpoint --frames video:drive.mp4 \\
      --out segmented.mp4
  cpcdr segment --network runs/pretrain/probe --frames video:drive.mp4 \\
      --out segmented.mp4
  cpcdr segment --network models:/cpcdr@champion --frames video:drives/ \\
      --out runs/labels --labels
"""

import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpcdr.frames import FrameRef, FrameSource, frame_rates_of, notes_of, open_frames
from cpcdr.frames.decode import encode_jpeg
from cpcdr.runtime.ending import end_with
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.hold import hold
from cpcdr.runtime.map_frames import map_frames, warmup_of
from cpcdr.runtime.progress import Progress
from cpcdr.runtime.tracking.models import find_checkpoint
from cpcdr.segment.config import SegmentConfig
from cpcdr.segment.load import LoadedNetwork, load_network_for_use
from cpcdr.segment.writers import LabelFiles, OverlayVideos, encode_ids
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
            rows.append({"sequence": ref.sequence, "frame_id": ref.frame_id, "picture": b""})
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
    """Segment every frame, in order.

    Returns:
        ``out``, ``frames``, ``rejected``, ``frames_per_second``, ``classes``.

    Raises:
        InputError: model or frames cannot be used, or nothing could be written.
    """
    _made_folder(config)  # its sentences are about videos too
    with hold(config.out, is_file=config.one_video):
        return _segment(config)


def _segment(config: SegmentConfig) -> dict[str, Any]:
    start = time.perf_counter()
    checkpoint = find_checkpoint(config.network)
    source = open_frames(config.frames, config.options)
    network = load_network_for_use(checkpoint, config.clusters)
    refs, rejected, first, done = source.refs(), 0, 0.0, 0
    for note in notes_of(source):
        print(f"{note}.")
    folder = _made_folder(config)
    below = cache(partial(legend, network.names, network.colours)) if config.legend else None
    rates = frame_rates_of(source)
    output = LabelFiles(folder) if config.labels else OverlayVideos(config, rates, below)
    arguments, workers = (config, checkpoint, source), config.workers
    rows = map_frames(SegmentVideo, arguments, refs, config.engine, workers, ordered=True, most=8)
    with (
        output as writer,
        Progress(
            total=len(refs), desc="segment", unit="frame", warmup=warmup_of(config.engine)
        ) as bar,
    ):
        for row in rows:
            first = first or time.perf_counter()
            bar.update()
            if row["reason"]:
                rejected += 1
                print(f"left out: {row['reason']}")
                continue
            writer.add(row["sequence"], row["frame_id"], row["picture"])
            done += 1
    if not done:
        raise InputError(f"{config.frames}: no frame could be segmented.")
    save_png(folder / "legend.png", legend(network.names, network.colours))
    elapsed = time.perf_counter()
    what = "labels" if config.labels else "video" if config.one_video else "videos"
    end_with(
        {what: config.out, "legend": folder / "legend.png"},
        ["export", "--network", config.network, "--out", "model.onnx"],
    )
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
