"""Copies of a prepared dataset that differ only in their region maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.dataset import manifest_file, read_manifest
from cpcdr.frames import (
    PROTOCOLS,
    FrameSource,
    fit,
    get_protocol,
    with_protocol,
)
from cpcdr.frames.decode import decode_image
from cpcdr.maps import encode_ids
from cpcdr.prepare.derive import derive
from cpcdr.prepare.origin import source_of
from cpcdr.regions.alternatives import felzenszwalb, slic
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.run_folder import refuse_other

Cut = Callable[[dict[str, Any]], NDArray[np.integer]]
"""From a prepared row to its regions, integers [H, W] from 0."""
Method = Callable[[NDArray[np.uint8], int], NDArray[np.integer]]


def with_regions(data: Path, out: Path, kind: str) -> dict[str, Any]:
    """Make ``out`` from ``data`` with regions of another kind: slic, felzenszwalb or objects.

    A finished ``out`` is reused. SLIC and Felzenszwalb cut each frame into as many pieces as it has
    depth regions.

    Returns:
        the manifest of ``out``.

    Raises:
        InputError: ``objects`` without labels, or ``out`` holds another dataset.
    """
    manifest = read_manifest(data)
    identity = {"from": manifest["hash"], "regions": kind}
    digest = config_hash(identity)
    if out.exists():
        made = read_manifest(out)
        old = {"from": made.get("regions_replaced_in"), "regions": made.get("regions_are")}
        old |= {"hash": made["config_hash"]}
        refuse_other(out, "a dataset", old, {"hash": digest, **identity}, manifest_file(out))
        return made
    cut = _cut(kind, manifest)
    facts = {"config_hash": digest, "regions_are": kind, "regions_replaced_in": manifest["hash"]}

    def changed(row: dict[str, Any]) -> dict[str, Any]:
        ids = cut(row)
        regions = encode_ids(ids.astype(np.uint16))
        return row | {"regions": regions, "num_regions": int(ids.max()) + 1}

    return derive(data, out, changed, facts, kind)


def _cut(kind: str, manifest: dict[str, Any]) -> Cut:
    if kind == "objects":
        return _Objects(manifest)
    method: Method = slic if kind == "slic" else felzenszwalb
    return lambda row: method(decode_image(row["image"], row["frame_id"]), row["num_regions"])


class _Objects:
    """Connected components of the label maps of the frames that a dataset was prepared from."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.source = with_finest_labels(source_of(manifest))
        self.refs = {ref.frame_id: ref for ref in self.source.refs()}

    def __call__(self, row: dict[str, Any]) -> NDArray[np.int64]:
        try:
            frame = fit(self.source.read(self.refs[row["frame_id"]]), (row["height"], row["width"]))
        except (KeyError, FrameError) as error:
            raise InputError(
                f"{row['frame_id']}: its labels cannot be read; leave 'objects' out of --variants."
            ) from error
        if frame.labels is None:
            raise InputError(
                f"{row['frame_id']}: has no labels; leave 'objects' out of --variants."
            )
        return label_components(frame.labels)


def label_components(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Connected components (8-connectivity) of equal labels, including void; ids from 0."""
    from skimage.measure import label  # slow to import

    return label(labels.astype(np.int64), background=-1, connectivity=2) - 1


def with_finest_labels(source: FrameSource) -> FrameSource:
    """The source under the finest protocol that its label files support.

    Raises:
        InputError: the source has no labels.
    """
    if not source.protocol:
        raise InputError(
            f"{source.spec}: has no labels to make objects from; leave 'objects' out of --variants."
        )
    ids = get_protocol(source.protocol).label_ids
    fitting = [protocol for protocol in PROTOCOLS.values() if protocol.label_ids == ids]
    return with_protocol(source, max(fitting, key=lambda p: len(p.classes)).name)
