"""The prepared dataset of a trial: made once per region settings, shared by their hash.

New thresholds regroup the cached graphs. Settings that the graph depends on need new graphs, made
from the images and disparity in the dataset: no video is read and no depth is computed. Trials that
differ in thresholds alone share a graph.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpcdr.dataset import read_manifest
from cpcdr.frames.row import REF_SCHEMA
from cpcdr.prepare.derive import derive
from cpcdr.prepare.draft import draft_of, row_of
from cpcdr.prepare.regroup import IN_GRAPH, graph_settings, region_settings, regroup
from cpcdr.prepare.stages import GroupRegions
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import config_hash, to_plain
from cpcdr.runtime.errors import InputError


def dataset_with(data: Path, regions: RegionConfig, root: Path) -> Path:
    """The frames of ``data`` with other region settings; concurrent callers wait and share it.

    Args:
        root: folder of the datasets of one search.

    Returns:
        the dataset's folder, named by the hash of ``regions``.
    """
    if regions == region_settings(data):
        return data
    graph = {name: getattr(regions, name) for name in IN_GRAPH}
    if graph != graph_settings(data):
        base = root / f"graph-{config_hash(graph)}"
        with _locked(base):
            if not base.exists():
                regraph(data, base, regions)
        data = base
    shared = root / config_hash(regions)
    with _locked(shared):
        regroup(data, shared, regions)
    return shared


def regraph(data: Path, out: Path, regions: RegionConfig) -> dict[str, Any]:
    """Make ``out`` from the images and disparity of ``data``, with new graphs and regions.

    Every row equals what prepare makes of the frame with these settings.

    Returns:
        the manifest of ``out``.

    Raises:
        InputError: a frame's graph cannot be built.
    """
    manifest = read_manifest(data)
    config = manifest["config"] | {"regions": to_plain(asdict(regions))}
    facts = {
        "config_hash": config_hash(config),
        "config": config,
        "regraphed_from": manifest["hash"],
    }
    stage = GroupRegions(regions)
    return derive(data, out, lambda row: _regraphed(stage, row), facts, "graphs")


def _regraphed(stage: GroupRegions, row: dict[str, Any]) -> dict[str, Any]:
    unknown = {name: "" for name in REF_SCHEMA.names if name not in row}
    (new,) = stage([draft_of({**unknown, **row})])
    if new.reason:
        raise InputError(f"{row['frame_id']}: {new.reason}")
    return row_of(new) | {name: row[name] for name in ("image", "disparity")}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases if this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
