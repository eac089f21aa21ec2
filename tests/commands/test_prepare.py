"""Prepare end to end on Ray Data: contract, rejection, resume, re-grouping."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from manifests import manifest, write_manifest
from mlflow import MlflowClient

from cpcdr import maps
from cpcdr.commands.prepare import _check_same, _identity, prepare
from cpcdr.dataset import LAYOUT, PREPARED_SCHEMA, PreparedDataset, read_manifest
from cpcdr.depth.config import TINY
from cpcdr.depth.model import DepthModel
from cpcdr.depth.sources import open_depth
from cpcdr.frames import FrameOptions, FrameSource, open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.prepare.draft import FLOW_SCHEMA, Draft, draft_of, row_of
from cpcdr.prepare.index import finished_ids
from cpcdr.prepare.parts import damaged_files, finish, write_part
from cpcdr.prepare.regroup import regroup
from cpcdr.prepare.stages import EstimateDepth, GroupRegions, ReadFrames, RunStages
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.map_frames import blocks_of
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.store import tracking_uri

STREET = "synthetic:streets=2,frames=3,height=64,width=128,seed=7"
REGIONS = RegionConfig(superpixels=20000)


def run_here(source: FrameSource, out: Path, size: tuple[int, int] = (0, 0)) -> list[dict]:
    """The stages in this process, all frames in one part."""
    rows = rows_of_street(source, REGIONS, size)
    write_part(out, rows)
    return rows


def rows_of_street(
    source: FrameSource, regions: RegionConfig, size: tuple[int, int] = (0, 0)
) -> list[dict]:
    drafts = [Draft(ref) for ref in source.refs()]
    stages = (
        ReadFrames(source, size),
        EstimateDepth(open_depth("ground-truth")),
        GroupRegions(regions),
    )
    for stage in stages:
        drafts = stage(drafts)
    return [row_of(draft) for draft in drafts]


@pytest.mark.slow
def test_maps_of_either_compression_are_the_same(tmp_path: Path) -> None:
    found = {}
    for compression in ("zstd", "lz4"):
        config = PrepareConfig(STREET, out=tmp_path / compression, regions=REGIONS, engine="local")
        config = replace(config, compression=compression, tracking=TrackingConfig("none"))
        prepare(config)
        dataset = PreparedDataset(config.out)
        stored = dataset.rows([0], ["regions"])[0]["regions"]
        assert stored[:4] == {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}[compression]
        found[compression] = dataset.samples(range(6))
    for one, other in zip(*found.values(), strict=True):
        for name, value in vars(one).items():
            assert np.array_equal(value, getattr(other, name)), name


@pytest.mark.slow
def test_rows_keep_the_contract(tmp_path: Path) -> None:
    rows = run_here(open_frames(STREET), tmp_path)
    index, rejected = finish(tmp_path)
    assert index.num_rows == 6 and rejected.num_rows == 0
    assert index["frame_id"].to_pylist() == sorted(row["frame_id"] for row in rows)
    (part,) = (tmp_path / "data").glob("*.parquet")
    table = pq.read_table(part)
    assert table.schema.equals(PREPARED_SCHEMA)
    row = table.to_pylist()[0]
    size = (row["height"], row["width"])
    regions = maps.decode_ids(row["regions"], size)
    assert regions is not None and regions.shape == size
    assert np.array_equal(np.unique(regions), np.arange(row["num_regions"]))
    assert len(row["edges"]) == 2 * len(row["edge_distance"])
    disparity = maps.decode_disparity(row["disparity"], size)
    assert disparity is not None and disparity.min() > 0


def test_bad_frames_are_rejected_with_a_reason_and_the_rest_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    street = open_frames(STREET)
    for i, ref in enumerate(street.refs()[:3]):
        (folder / f"{i:03d}.jpg").write_bytes(street.read(ref).encoded)
    (folder / "003.png").write_bytes(b"")
    truncated = cv2.imencode(".png", np.zeros((64, 128, 3), np.uint8))[1].tobytes()
    (folder / "004.png").write_bytes(truncated[: len(truncated) // 2])
    source = open_frames(f"images:{folder}")
    drafts = ReadFrames(source, (0, 0))([Draft(ref) for ref in source.refs()])
    assert [bool(draft.reason) for draft in drafts] == [False, False, False, True, True]
    assert all("00" in draft.reason and draft.stage == "frames" for draft in drafts[3:])
    # No exact disparity in image files: depth rejects each of them, and says what to do.
    drafts = EstimateDepth(open_depth("ground-truth"))(drafts)
    assert [draft.stage for draft in drafts] == ["depth"] * 3 + ["frames"] * 2
    rows = GroupRegions(REGIONS)(drafts)
    assert [draft.frame for draft in rows] == [None] * 5


def test_between_stages_and_between_processes_frames_are_the_same() -> None:
    source = open_frames(STREET)
    drafts = ReadFrames(source, (48, 100))([Draft(ref) for ref in source.refs()[:2]])
    for stage in (lambda d: d, EstimateDepth(open_depth("ground-truth"))):
        drafts = stage(drafts)
        for draft in drafts:
            (row,) = pa.Table.from_pylist([row_of(draft)], schema=FLOW_SCHEMA).to_pylist()
            sent = draft_of(row)
            assert draft.frame is not None and sent.frame is not None
            assert (sent.ref, sent.source, sent.reason) == (draft.ref, draft.source, "")
            for name in ("image", "disparity", "intrinsics"):
                here, there = getattr(draft.frame, name), getattr(sent.frame, name)
                assert here.dtype == there.dtype and np.array_equal(here, there), name
            assert row_of(sent) | {"intrinsics": 0} == row_of(draft) | {"intrinsics": 0}


def test_nothing_is_encoded_to_be_decoded_in_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def counting(name: str, *arguments: Any) -> bytes:
        encoded.append(name)
        return getattr(maps, name)(*arguments)

    def never(data: bytes) -> None:
        raise AssertionError("a map was decoded")

    for name in ("encode_ids", "encode_disparity"):
        monkeypatch.setattr(f"cpcdr.prepare.draft.{name}", functools.partial(counting, name))
    monkeypatch.setattr("cpcdr.prepare.draft.decode_disparity", never)
    monkeypatch.setattr("cpcdr.prepare.draft.frame_from_row", never)
    source = open_frames(STREET)
    stages = [ReadFrames(source, (0, 0)), EstimateDepth(open_depth("ground-truth"))]
    actor = RunStages([*stages, GroupRegions(REGIONS)], tmp_path)
    done = actor(blocks_of(source.refs()[:2], 2, 1)[0])
    assert done["frame_id"].to_pylist() == [ref.frame_id for ref in source.refs()[:1]]
    assert sorted(encoded) == ["encode_disparity", "encode_ids", "encode_ids"], "once each"


def test_a_frame_written_twice_is_in_the_index_once(tmp_path: Path) -> None:
    source = open_frames(STREET)
    rows = run_here(source, tmp_path)
    write_part(tmp_path, rows[:2])
    assert len(list((tmp_path / "data").glob("*.parquet"))) == 2
    index, _ = finish(tmp_path)
    assert index.num_rows == 6 and len(set(index["frame_id"].to_pylist())) == 6


def test_half_written_parts_do_not_count(tmp_path: Path) -> None:
    run_here(open_frames(STREET), tmp_path)
    (part,) = (tmp_path / "data").glob("*.parquet")
    part.rename(part.with_name(f".{part.name}.123.partial"))
    assert len(finished_ids(tmp_path)) == 0


def config(tmp_path: Path, **changes: object) -> PrepareConfig:
    return PrepareConfig(
        frames=STREET,
        out=tmp_path / "dataset",
        regions=REGIONS,
        frames_per_part=2,
        tracking=TrackingConfig("none"),
        **changes,  # type: ignore[arg-type]
    )


def test_poor_depth_is_refused_unless_allowed(tmp_path: Path) -> None:
    source, folder = open_frames(STREET), tmp_path / "maps"
    slope = np.linspace(500, 20000, 64).astype(np.uint16)[:, None].repeat(128, axis=1)
    for i, ref in enumerate(source.refs()):
        path = folder / f"{ref.frame_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        slope[30 + i, 3] += 1
        assert cv2.imwrite(str(path), slope)
    poor = config(tmp_path, depth=f"precomputed:{folder}", engine="local")
    ways = "try --depth street.*--depth hf:.*train-depth.*--options.fov"
    words = rf"^Depth by {poor.depth} is poor: all.*ignores its images; {ways}.*--allow-poor-depth"
    with pytest.raises(InputError, match=words):
        prepare(poor)
    assert not (tmp_path / "dataset").exists()
    assert prepare(replace(poor, allow_poor_depth=True))["frames"] == 6


def test_one_giant_region_is_said_and_marks_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(config(tmp_path, engine="local"), tracking=TrackingConfig())
    fine = prepare(settings)
    assert "warning" not in capsys.readouterr().out
    again = replace(
        settings,
        regroup=settings.out,
        out=tmp_path / "again",
        regions=RegionConfig(separation=1.0, bias=100.0),
    )
    merged = prepare(again)
    assert merged["regions_per_frame"] < 2
    assert "warning: one region covers 100 % of the image in 6 of 6" in capsys.readouterr().out
    tags = [
        MlflowClient(tracking_uri()).get_run(done["run_id"]).data.tags for done in (fine, merged)
    ]
    assert "cpcdr.alarm" not in tags[0] and "one region" in tags[1]["cpcdr.alarm"]


def test_a_learned_camera_is_taken_where_none_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    street, folder = open_frames(STREET), tmp_path / "drive"
    folder.mkdir()
    for i, ref in enumerate(street.refs()[:2]):
        (folder / f"{i}.jpg").write_bytes(street.read(ref).encoded)
    torch.manual_seed(0)
    settings = replace(TINY, channels=8, height=64, width=64, intrinsics="learn")
    model = DepthModel(settings)
    # As long as the training's images are wide.
    torch.nn.init.constant_(model.intrinsics.log_focal, 0.0)
    values = {"kind": "depth", "config": to_plain(settings)}
    network = write_checkpoint(tmp_path / "net", 1, values, model.state_dict(), {})
    learned = replace(
        config(tmp_path, depth=f"network:{network}", engine="local", allow_poor_depth=True),
        frames=f"images:{folder}",
    )
    prepare(learned)
    data = PreparedDataset(tmp_path / "dataset")
    for row in data.rows(range(2), ["intrinsics"]):
        assert row["intrinsics"] == pytest.approx([64, 64, 63.5, 31.5])
    assert data.manifest["intrinsics"].startswith(f"learned by network:{network}: 64.00,64.00,")
    told = capsys.readouterr().out
    assert f"intrinsics {data.manifest['intrinsics']}; depth by network:" in told


def test_the_size_is_chosen_and_what_is_kept_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drive").mkdir()
    street = open_frames("synthetic:streets=1,frames=2,height=360,width=640")
    for i, ref in enumerate(street.refs()):
        (tmp_path / "drive" / f"{i}.jpg").write_bytes(street.read(ref).encoded)
    spec = {"frames": f"images:{tmp_path / 'drive'}", "allow_poor_depth": True, "engine": "local"}
    for out, size, chosen, words in (
        ("all", (0, 0), [288, 512], "640×360 -> 512×288, all of the picture"),
        ("crop", (64, 192), [64, 192], "640×360 -> 192×64, the middle 59 % of the picture"),
    ):
        given = replace(config(tmp_path), out=tmp_path / out, size=size, **spec)
        assert prepare(given)["size"] == chosen
        assert f"{words}.\n" in capsys.readouterr().out
        data = PreparedDataset(tmp_path / out)
        assert data.manifest["picture"] == words and data.manifest["size"] == chosen
        assert data.samples([0])[0].image.shape == (*chosen, 3)
        assert prepare(given)["reused_frames"] == 2
    few = replace(config(tmp_path), out=tmp_path / "few", pixels=160 * 288, **spec)
    assert prepare(few)["size"] == [160, 288]
    assert PrepareConfig.presets()["paper"].pixels == 384 * 768


def test_regroup_reuses_every_graph(tmp_path: Path) -> None:
    prepare(config(tmp_path, engine="local"))
    again = PrepareConfig(
        regroup=tmp_path / "dataset",
        out=tmp_path / "again",
        regions=RegionConfig(separation=0.6),
        tracking=TrackingConfig("none"),
    )
    result = prepare(again)
    assert result["frames"] == result["reused_frames"] == 6
    before, after = (PreparedDataset(tmp_path / name) for name in ("dataset", "again"))
    assert after.frame_ids == before.frame_ids
    assert after.manifest["config"]["regions"]["superpixels"] == REGIONS.superpixels
    assert after.manifest["regions_per_frame"] < before.manifest["regions_per_frame"]
    other = replace(again, regions=RegionConfig(compactness=3.0), out=tmp_path / "other")
    with pytest.raises(InputError, match="compactness"):
        prepare(other)


@pytest.mark.slow
def test_prepare_resumes_and_equals_an_uninterrupted_run(tmp_path: Path, ray_local: object) -> None:
    whole = prepare(config(tmp_path))
    assert whole["frames"] == 6 and whole["rejected"] == 0 and whole["reused_frames"] == 0
    ids = PreparedDataset(tmp_path / "dataset").frame_ids
    assert prepare(config(tmp_path))["reused_frames"] == 6

    # What a killed run leaves: the folder under its partial name, some parts, a torn one.
    other = tmp_path / "again"
    other.mkdir()
    partial = other / "dataset.partial"
    (tmp_path / "dataset").rename(partial)
    for name in (LAYOUT.manifest, LAYOUT.index, LAYOUT.rejected, LAYOUT.parts):
        (partial / name).unlink()
    parts = sorted((partial / "data").glob("*.parquet"))
    kept = pq.read_table(parts[0]).num_rows
    parts[1].rename(parts[1].with_name(f".{parts[1].name}.1.partial"))
    for part in parts[2:]:
        part.unlink()
    result = prepare(config(other))
    assert result["reused_frames"] == kept and result["frames"] == 6
    assert result["hash"] == whole["hash"]
    second = PreparedDataset(other / "dataset")
    columns = PREPARED_SCHEMA.names
    assert second.frame_ids == ids
    prepare(config(tmp_path))
    first = PreparedDataset(tmp_path / "dataset")
    assert second.rows(range(6), columns) == first.rows(range(6), columns)


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    partial = tmp_path / "dataset.partial"
    (partial / "__cpcdr__").mkdir(parents=True)
    (partial / LAYOUT.settings).write_text("hash: something-else\n")
    with pytest.raises(InputError, match="an unfinished dataset with other settings"):
        prepare(config(tmp_path))


def test_regroup_equals_grouping_from_scratch(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "regrouped"
    rows = run_here(open_frames(STREET), data)
    write_part(data, [rows[0] | {"frame_id": "torn", "stage": "frames", "reason": "no image"}])
    assert finish(data)[1]["frame_id"].to_pylist() == ["torn"]
    shutil.rmtree(data / "rejected")  # as publication does
    made = {"frames": STREET, "options": {}, "size": [0, 0], "regions": to_plain(REGIONS)}
    write_manifest(data, manifest(6, hash="a", config=made))
    new = RegionConfig(superpixels=20000, separation=0.4, gain=30.0)
    made = regroup(data, out, new)
    assert made["regrouped_from"] == "a"
    assert pq.read_table(out / LAYOUT.rejected).equals(pq.read_table(data / LAYOUT.rejected))
    scratch = rows_of_street(open_frames(STREET), new)
    rows = PreparedDataset(out).rows(range(6), ["frame_id", "regions", "num_regions"])
    for row, expected in zip(rows, sorted(scratch, key=lambda r: r["frame_id"]), strict=True):
        assert row["regions"] == expected["regions"]
    assert read_manifest(out)["config"]["regions"]["separation"] == 0.4
    with pytest.raises(InputError, match="superpixels"):
        regroup(data, tmp_path / "other", RegionConfig(superpixels=500))


def test_no_frame_at_all_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        open_frames(f"images:{tmp_path / 'empty'}", FrameOptions())


def flip_a_bit(part: Path) -> None:
    data = bytearray(part.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 100] ^= 1  # inside a JPEG image
    part.write_bytes(data)


@pytest.mark.slow
def test_damaged_parts_are_redone_and_only_they(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = replace(config(tmp_path), engine="local")
    whole = prepare(given)
    rows = PreparedDataset(given.out).rows(range(6), PREPARED_SCHEMA.names)
    manifest = read_manifest(given.out)

    def parts() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in sorted((given.out / "data").glob("*.parquet"))}

    before = parts()
    hurt = list(before)[1]
    flip_a_bit(hurt)
    with pytest.raises(InputError, match=rf"{hurt.name}: is damaged .*redoes just this part"):
        PreparedDataset(given.out).samples(range(6))
    result = prepare(given)
    assert f"data/{hurt.name} damaged; redoing what they hold" in capsys.readouterr().out
    assert result["reused_frames"] == 4 and result["hash"] == whole["hash"]
    kept = {p: t for p, t in before.items() if p != hurt}
    assert len(kept) == 2 and kept.items() <= parts().items()
    assert PreparedDataset(given.out).rows(range(6), PREPARED_SCHEMA.names) == rows
    assert read_manifest(given.out) == manifest

    # The same in an unfinished dataset, and without its indices.
    for name in (LAYOUT.index, LAYOUT.parts):
        (given.out / name).write_bytes(b"junk")
        assert prepare(given)["reused_frames"] == 6
        assert damaged_files(given.out) == []
    partial = given.out.with_name("dataset.partial")
    given.out.rename(partial)
    (partial / LAYOUT.manifest).unlink()
    other = next(iter(kept)).name
    flip_a_bit(partial / "data" / other)
    assert prepare(given)["reused_frames"] == 4
    assert f"{other} is damaged; its frames are prepared again" in capsys.readouterr().out
    assert PreparedDataset(given.out).rows(range(6), PREPARED_SCHEMA.names) == rows


def test_changed_input_files_are_noticed_and_named(tmp_path: Path) -> None:
    source, frames, maps = open_frames(STREET), tmp_path / "frames", tmp_path / "maps"
    frames.mkdir()
    (maps / "frames").mkdir(parents=True)
    for i, ref in enumerate(source.refs()[:2]):
        frame = source.read(ref)
        (frames / f"{i:03d}.jpg").write_bytes(frame.encoded)
        disparity = (frame.disparity * 65535).astype(np.uint16)
        assert cv2.imwrite(str(maps / "frames" / f"{i:08d}.png"), disparity)
    given = replace(
        config(tmp_path), frames=f"images:{frames}", depth=f"precomputed:{maps}", engine="local",
        allow_poor_depth=True, size=(64, 128),
    )  # fmt: skip
    identity = _identity(given)
    assert identity["inputs"].keys() == {"frames", "depth"} and identity == _identity(given)
    given.out.mkdir()
    entries = {"config": given.identity(), "inputs": identity["inputs"]}
    text = manifest(2, config_hash=config_hash(identity), **entries)
    write_manifest(given.out, text)
    _check_same(given.out, identity)
    changed = cv2.imread(str(maps / "frames" / "00000001.png"), cv2.IMREAD_UNCHANGED) // 2
    assert cv2.imwrite(str(maps / "frames" / "00000001.png"), changed)
    with pytest.raises(InputError, match=r"holds a dataset with other settings: inputs\.depth"):
        prepare(given)
    (frames / "000.jpg").write_bytes((frames / "001.jpg").read_bytes())
    with pytest.raises(InputError, match=r"settings: inputs\.frames .*, inputs\.depth"):
        prepare(given)
