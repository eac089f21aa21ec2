"""The readers that `fuzz.py` tests: valid files for each, and what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from manifests import manifest, write_manifest


@dataclass(frozen=True)
class Reader:
    """How a reader is tested.

    Attributes:
        make: writes valid files into a folder.
        read: reads them.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]


def _pixels() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (8, 16, 3), np.uint8)
    return noise.repeat(8, 0).repeat(8, 1)


def _make_config(folder: Path) -> None:
    from cpcdr.prepare.config import PrepareConfig
    from cpcdr.runtime.config import write_yaml
    from cpcdr.train.config import PretrainConfig

    write_yaml(folder / "prepare.yaml", PrepareConfig())
    write_yaml(folder / "pretrain.yaml", PretrainConfig())


def _read_config(folder: Path) -> None:
    from cpcdr.prepare.config import PrepareConfig
    from cpcdr.runtime.cli import overlay_sections
    from cpcdr.runtime.config import config_hash, read_yaml
    from cpcdr.train.config import PretrainConfig

    for config, name in ((PrepareConfig(), "prepare.yaml"), (PretrainConfig(), "pretrain.yaml")):
        config_hash(overlay_sections(config, read_yaml(folder / name), name))


def _make_space(folder: Path) -> None:
    from cpcdr.runtime.config import write_yaml
    from cpcdr.tune.space import REGION_SPACE, TRAINING_SPACE, as_yaml

    write_yaml(folder / "space.yaml", as_yaml(REGION_SPACE | TRAINING_SPACE))


def _read_space(folder: Path) -> None:
    from cpcdr.tune.space import read_space

    random = np.random.default_rng(0)
    for chosen in read_space(folder / "space.yaml").values():
        assert chosen.holds(chosen.draw(random))


def _make_ledger(folder: Path) -> None:
    from cpcdr.tune.ledger import Ledger

    ledger = Ledger(folder / "ledger.jsonl")
    for number in range(4):
        ledger.add({"gain": 48.0 + number, "prototypes": 64})
        for step in (10, 20):
            ledger.report(number, {"step": step, "score": 0.1 * step}, {"gain": 48.0})
        ledger.end(number, "done")
        ledger.recorded(number)


def _read_ledger(folder: Path) -> None:
    from cpcdr.tune.ledger import Ledger

    ledger = Ledger(folder / "ledger.jsonl")
    for trial in ledger.trials:
        assert trial.step >= 0
        assert not trial.reports or isinstance(trial.score("score"), float)
    ledger.add({"gain": 1.0})


def _make_history(folder: Path) -> None:
    from cpcdr.train.history import append_history

    for step in range(0, 40, 2):
        append_history(folder / "history.jsonl", {"step": step, "loss": 1 / (step + 1), "lr": None})


def _read_history(folder: Path) -> None:
    from cpcdr.train.history import HistoryTail, cut_history

    HistoryTail(folder / "history.jsonl").new_rows()
    cut_history(folder / "history.jsonl", 20)


def _make_camera(folder: Path) -> None:
    camera = {"fx": 2262.5, "fy": 2265.3, "u0": 1096.98, "v0": 513.137}
    (folder / "camera.json").write_text(json.dumps({"intrinsic": camera, "extrinsic": {"x": 1.7}}))
    (folder / "calib.txt").write_text("P2: 707 0 601 44.8 0 707 183 0.2 0 0 1 0.002\nTr: 1 2\n")


def _read_camera(folder: Path) -> None:
    from cpcdr.frames.intrinsics import check_inside, cityscapes_intrinsics, kitti_projection

    kitti_projection(folder / "calib.txt", "P2")
    check_inside(cityscapes_intrinsics(folder / "camera.json", 2048), (1024, 2048), "frame")


def _rows() -> list[dict[str, Any]]:
    from cpcdr.maps import encode_ids

    image = cv2.imencode(".png", _pixels())[1].tobytes()
    maps = encode_ids(np.arange(64 * 128, dtype=np.uint16).reshape(64, 128) // 100)
    return [
        {
            "sequence": "street",
            "frame_index": i,
            "frame_id": f"street/{i:08d}",
            "image": image,
            "height": 64,
            "width": 128,
            "intrinsics": [100.0, 100.0, 63.5, 31.5],
            "source": "images:x",
            "disparity": maps,
            "regions": maps,
            "num_regions": 82,
            "superpixels": maps,
            "edges": [0, 1],
            "edge_distance": [0.5],
        }
        for i in range(8)
    ]


def _make_manifest(folder: Path) -> None:
    from cpcdr.prepare.config import PrepareConfig
    from cpcdr.runtime.config import to_plain

    text = manifest(8, size=[64, 128], config=to_plain(PrepareConfig()))
    write_manifest(folder, text)


def _read_manifest(folder: Path) -> None:
    from cpcdr.prepare.regroup import region_settings

    region_settings(folder)


def _make_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cpcdr.dataset import FORMAT, INDEX_SCHEMA, LAYOUT, PREPARED_SCHEMA, ROWS_PER_GROUP
    from cpcdr.part_index import PART_INDEX_SCHEMA

    write_manifest(folder, manifest(8, size=[64, 128], format=FORMAT))
    (folder / "data").mkdir()
    part, rows = "part-00000.parquet", _rows()
    table = pa.Table.from_pylist(rows, PREPARED_SCHEMA)
    # Without checksums, so that what is damaged is also decoded.
    pq.write_table(table, folder / "data" / part, row_group_size=ROWS_PER_GROUP)
    index = [
        {"frame_id": row["frame_id"], "part": part, "row": i, "num_regions": 82}
        for i, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(index, INDEX_SCHEMA), folder / LAYOUT.index)
    runs = [{"part": part, "row": 0, "frames": len(rows)}]
    pq.write_table(pa.Table.from_pylist(runs, PART_INDEX_SCHEMA), folder / LAYOUT.parts)


def _read_parquet(folder: Path) -> None:
    from cpcdr.commands.export_png import export_png
    from cpcdr.dataset import PREPARED_SCHEMA, PreparedDataset
    from cpcdr.prepare.config import ExportPngConfig

    dataset = PreparedDataset(folder)
    _ = dataset.frame_ids
    dataset.samples(range(len(dataset)))
    dataset.rows(range(len(dataset)), PREPARED_SCHEMA.names)
    export_png(ExportPngConfig(data=folder, out=folder / "png"))


def _without_digests(folder: Path) -> None:
    """Digests would notice all damage before any parser sees it."""
    from cpcdr.runtime.config import read_yaml, write_yaml

    values = read_yaml(folder / "config.yaml")
    values.pop("digests")
    write_yaml(folder / "config.yaml", values)


def _make_checkpoint(folder: Path) -> None:
    import torch

    from cpcdr.depth.config import DepthConfig
    from cpcdr.depth.model import DepthModel
    from cpcdr.model.config import ModelConfig
    from cpcdr.model.segmentation import SegmentationNetwork
    from cpcdr.runtime.checkpoint import write_checkpoint
    from cpcdr.runtime.config import to_plain

    torch.manual_seed(0)
    state = {"optimizer": {"state": {0: {"step": torch.ones(3)}}, "param_groups": []}, "scaler": {}}
    model = ModelConfig("resnet10", 8, 16, 32, 16, 30)
    depth = DepthConfig(backbone="resnet10", channels=8, height=64, width=128)
    kinds: list[tuple[str, torch.nn.Module, Any]] = [
        ("pretrain", SegmentationNetwork(model), {"model": to_plain(model), "dataset": {}}),
        ("depth", DepthModel(depth), to_plain(depth)),
    ]
    for step, (kind, network, config) in enumerate(kinds):
        if kind == "pretrain":
            config["dataset"] = {"hash": "x", "size": [64, 128]}
        values = {"kind": kind, "config": config}
        _without_digests(write_checkpoint(folder, step, values, network.state_dict(), state))


def _read_checkpoint(folder: Path) -> None:
    from cpcdr.depth.network import load_depth_network
    from cpcdr.runtime.checkpoint import check_checkpoint, read_state
    from cpcdr.segment.load import load_network_for_use

    segmentation, depth = folder / "step-00000000", folder / "step-00000001"
    for one in (segmentation, depth):
        check_checkpoint(one)
        assert isinstance(read_state(one), dict)
    network = load_network_for_use(segmentation, 4)
    assert network.segment(_pixels()).shape == (64, 128)
    load_depth_network(depth)


def _make_images(folder: Path) -> None:
    pixels = _pixels()
    for name in ("a.png", "b.jpg", "c.tif", "d.bmp", "e.webp"):
        (folder / name).write_bytes(cv2.imencode(name[1:], pixels)[1].tobytes())
    labels = pixels[..., 0].astype(np.uint8)
    (folder / "f.png").write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    deep = labels.astype(np.uint16) * 200
    (folder / "g.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())


def _read_images(folder: Path) -> None:
    """All of them, so that one refusal does not spare the others; the last refusal is raised."""
    from cpcdr.frames.decode import image_size, read_image, read_label_map
    from cpcdr.maps import decode_png16
    from cpcdr.runtime.errors import InputError

    refused: InputError | None = None
    for path in sorted(folder.iterdir()):
        image_size(path)
        decode_png16(path.read_bytes())
        for read in (read_image, read_label_map):
            try:
                read(str(path))
            except InputError as error:
                refused = error if read is read_image else refused
    if refused:
        raise refused


def _make_video(folder: Path) -> None:
    import av

    for name, codec in (("a.mp4", "mpeg4"), ("b.avi", "mjpeg"), ("c.mkv", "mpeg4")):
        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream(codec, rate=10)
            stream.width, stream.height = 128, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(6):
                picture = np.roll(_pixels(), 4 * i, axis=1)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _read_video(folder: Path) -> None:
    from cpcdr.frames import open_frames

    source = open_frames(f"video:{folder}")
    refs = source.refs()
    for ref in refs[:24]:
        source.read(ref)


def _make_journal(folder: Path) -> None:
    from cpcdr.runtime.tracking.outbox import Outbox

    outbox = Outbox(folder, "key")
    for step in range(5):
        outbox.entries.append({"op": "metric", "key": "m", "value": 0.5, "step": step, "time": 1})
    outbox.entries.append({"op": "tags", "tags": {"a": "b"}})
    dataset = {"name": "d", "path": "p", "digest": "0", "context": "c"}
    outbox.entries.append({"op": "dataset", **dataset})
    outbox.entries.append({"op": "status", "status": "FINISHED"})
    outbox.keep()


def _read_journal(folder: Path) -> None:
    from cpcdr.runtime.tracking.outbox import Outbox

    outbox = Outbox(folder, "key")
    outbox.load()
    while outbox.entries:
        outbox.remove(outbox.head())
    outbox.keep()


READERS = {
    "config": Reader(_make_config, _read_config),
    "space": Reader(_make_space, _read_space),
    "ledger": Reader(_make_ledger, _read_ledger),
    "history": Reader(_make_history, _read_history),
    "camera": Reader(_make_camera, _read_camera),
    "manifest": Reader(_make_manifest, _read_manifest),
    "parquet": Reader(_make_parquet, _read_parquet),
    "checkpoint": Reader(_make_checkpoint, _read_checkpoint),
    "images": Reader(_make_images, _read_images),
    "video": Reader(_make_video, _read_video),
    "journal": Reader(_make_journal, _read_journal),
}
