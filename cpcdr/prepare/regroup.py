"""New thresholds for a prepared dataset: only the cached graphs are grouped again."""

from pathlib import Path
from typing import Any

import numpy as np

from cpcdr.dataset import manifest_file, read_manifest
from cpcdr.maps import decode_ids, encode_ids
from cpcdr.prepare.derive import derive
from cpcdr.regions.config import RegionConfig
from cpcdr.regions.graph import SuperpixelGraph
from cpcdr.regions.grouping import group
from cpcdr.runtime.config import config_hash, overlay, to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.run_folder import refuse_other

IN_GRAPH = ("superpixels", "compactness", "sigma", "plane_weight", "colour_weight", "centre_weight")
"""Settings that are in the graph already: others than the dataset's need a new preparation."""


def regroup(data: Path, out: Path, regions: RegionConfig) -> dict[str, Any]:
    """Make ``out`` from ``data`` with other thresholds; a finished ``out`` of them is re-used.

    Args:
        regions: new ``gain``, ``bias``, ``separation``, ``min_superpixels``,
            ``preferred_modules`` or ``seed``.

    Returns:
        the manifest of ``out``.

    Raises:
        InputError: ``regions`` needs another graph, or ``out`` holds something else.
    """
    manifest = read_manifest(data)
    settings = graph_settings(data)
    changed = [name for name in IN_GRAPH if settings[name] != getattr(regions, name)]
    if changed:
        raise InputError(
            f"{data}: its graph was made with other {', '.join(changed)}; "
            "prepare the frames again with these settings."
        )
    config = manifest["config"] | {"regions": to_plain(regions)}
    digest = config_hash(config)
    if out.exists():
        present = read_manifest(out)
        old = {"hash": present["config_hash"], **present["config"]}
        refuse_other(out, "a dataset", old, {"hash": digest, **config}, manifest_file(out))
        if present.get("regrouped_from") != manifest["hash"]:
            raise InputError(
                f"{out}: was regrouped from other frames than {data} holds now; give another path, "
                "or delete it."
            )
        return present
    facts = {"config_hash": digest, "config": config, "regrouped_from": manifest["hash"]}
    return derive(data, out, lambda row: _regrouped(row, regions), facts, "regroup")


def graph_settings(data: Path) -> dict[str, Any]:
    """What the superpixel graphs of a dataset were made with: the values of `IN_GRAPH`.

    Raises:
        InputError: it is no dataset.
    """
    old = region_settings(data)
    return {name: getattr(old, name) for name in IN_GRAPH}


def region_settings(data: Path) -> RegionConfig:
    """The region settings that a dataset was prepared with.

    Raises:
        InputError: it is not a dataset, or the settings are none.
    """
    section = read_manifest(data)["config"]["regions"]
    return overlay(RegionConfig(), section, str(manifest_file(data)))


def graph_of_row(row: dict[str, Any]) -> SuperpixelGraph:
    """The cached superpixel graph of a prepared row.

    Raises:
        InputError: the row is damaged.
    """
    superpixels = decode_ids(row["superpixels"], (row["height"], row["width"]))
    if superpixels is None:
        raise InputError(f"{row['frame_id']}: its superpixels are damaged; prepare it again.")
    return SuperpixelGraph(
        superpixels,
        np.asarray(row["edges"], np.int32).reshape(-1, 2),
        np.asarray(row["edge_distance"], np.float32),
    )


def _regrouped(row: dict[str, Any], regions: RegionConfig) -> dict[str, Any]:
    ids = group(graph_of_row(row), regions)
    return row | {"regions": encode_ids(ids), "num_regions": int(ids.max()) + 1}
