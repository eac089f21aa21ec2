"""A folder of recordings as people have them, prepared in one go."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from cpcdr.commands.prepare import prepare
from cpcdr.dataset import LAYOUT, PreparedDataset
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.errors import InputError

CASES = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases"
SIZE = (48, 64)

GOOD = {
    "inter.mp4": 20,
    "inter.ts": 20,
    "base": 60,
    "gapv": 6,
    "vfr.ts": 30,
    "trim": 14,
    "trim2": 3,
    "h": 30,
    "m4": 30,
    "x": 28,
    "aboff": 24,
    "vfr.mp4": 30,
    "sar": 10,
    "av1": 30,
    "gopro": 6,
    "size2": 12,
    "size2@320x180": 12,
    "jit": 60,
    "rot90": 6,
    "rot270": 6,
    "badsector": 45,
    "loss": 45,
    "br\\xfccke": 60,
}
REJECTED = {"badsector": 15, "loss": 14, "broken": 1, "black": 5}


def depth_maps(source_spec: str, root: Path) -> str:
    """A slope for every frame: what is below is near."""
    slope = np.linspace(2000, 30000, SIZE[0]).astype(np.uint16)[:, None].repeat(SIZE[1], axis=1)
    encoded = cv2.imencode(".png", slope)[1].tobytes()
    for ref in open_frames(source_spec).refs():
        path = root / f"{ref.frame_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return f"precomputed:{root}"


def black_video(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_all_cases_at_once_on_ray(tmp_path: Path, ray_local: object) -> None:
    if not CASES.exists():
        pytest.skip("no cases in shared/")
    folder = tmp_path / "videos"
    folder.mkdir()
    for file in sorted(CASES.glob("[01]*/*")):
        if file.is_file():
            shutil.copy(file, folder / file.name)
    base = folder / "base.mp4"
    shutil.copy(base, os.fsencode(folder) + b"/br\xfccke.mp4")
    (folder / "broken.mp4").write_bytes(b"cut off")
    (folder / "notes.txt").write_text("rain")
    black_video(folder / "black.mp4")
    spec, out = f"video:{folder}", tmp_path / "dataset"
    depth = depth_maps(spec, tmp_path / "depth")
    result = prepare(PrepareConfig(spec, depth, out, SIZE, workers=2, allow_poor_depth=True))
    dataset = PreparedDataset(out)
    frame_ids = pq.read_table(out / LAYOUT.index)["frame_id"].to_pylist()
    assert Counter(frame_id.rpartition("/")[0] for frame_id in frame_ids) == GOOD
    assert len(set(frame_ids)) == len(frame_ids) == result["frames"]
    for sample in dataset.samples(range(len(dataset))):
        assert int(sample.image.max()) - int(sample.image.min()) > 100
    rejected = pq.read_table(out / LAYOUT.rejected)
    names = [frame_id.rpartition("/")[0] for frame_id in rejected["frame_id"].to_pylist()]
    assert Counter(names) == REJECTED and all(rejected["reason"].to_pylist())
    manifest = json.loads((out / LAYOUT.manifest).read_text())
    assert manifest["notes"][0] == "1 of 25 files passed over: 1 .txt (no video)"
    assert any("interlaced" in note for note in manifest["notes"])
    assert manifest["frame_rates"]["inter.mp4"] == 25 and manifest["frame_rates"]["base"] == 30


def test_black_frames_are_refused(tmp_path: Path) -> None:
    spec = f"video:{black_video(tmp_path / 'black.mp4')}"
    depth = depth_maps(spec, tmp_path / "depth")
    config = PrepareConfig(
        spec, depth, tmp_path / "out", SIZE, engine="local", allow_poor_depth=True
    )
    with pytest.raises(InputError, match=r"black\.mp4 has no contrast \(frame 0\)"):
        prepare(config)
