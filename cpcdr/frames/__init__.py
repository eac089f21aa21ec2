"""Sources of frames: where driving video comes from, and how one frame of it is read.

`open_frames` turns the text that a user gives, ``KIND:PATH``, into a `FrameSource`.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpcdr.frames.cityscapes import CityscapesTree
from cpcdr.frames.frame import IGNORE, Frame, FrameOptions, FrameRef, FrameSource
from cpcdr.frames.idd_lite import IddLite
from cpcdr.frames.images import CamVidFolder, ImageFolders
from cpcdr.frames.intrinsics import parse_intrinsics
from cpcdr.frames.joined import JoinedSources, frame_rates_of, notes_of
from cpcdr.frames.kitti import KittiOdometry, KittiRaw, KittiSemantics
from cpcdr.frames.protocols import PROTOCOLS, Protocol, get_protocol
from cpcdr.frames.resize import fit, fit_intrinsics
from cpcdr.frames.stored import StoredFrames
from cpcdr.frames.video import VIDEO_SUFFIXES, VideoFiles
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import phase

__all__ = [
    "IGNORE",
    "KINDS",
    "PROTOCOLS",
    "Frame",
    "FrameError",
    "FrameOptions",
    "FrameRef",
    "FrameSource",
    "InputError",
    "Protocol",
    "fit",
    "fit_intrinsics",
    "frame_rates_of",
    "get_protocol",
    "notes_of",
    "open_frames",
    "with_protocol",
]

_DEFAULTS = FrameOptions()


def _synthetic(argument: str, options: FrameOptions) -> Any:
    from cpcdr.frames.synthetic import SyntheticStreet  # compiles its ray caster: only on demand

    return SyntheticStreet.parse(argument, options)


STORED: tuple[type[StoredFrames], ...] = (
    *(VideoFiles, ImageFolders, CityscapesTree, KittiRaw, KittiOdometry, KittiSemantics),
    *(CamVidFolder, IddLite),
)
KINDS: dict[str, Callable[[str, FrameOptions], Any]] = {
    "synthetic": _synthetic,
    **{source.kind: source.parse for source in STORED},
}
"""What may stand before the colon of a spec, and what opens the rest."""


@phase("listing the frames")
def open_frames(spec: str, options: FrameOptions = _DEFAULTS, protocol: str = "") -> FrameSource:
    """The source of frames that a user named.

    Args:
        spec: ``KIND:PATH`` with a kind of `KINDS`, or several joined by commas.
        options: intrinsics, window, stride and limit. In a joined source the limit counts all
            parts, and ``intrinsics`` and ``window`` may have a value for each part between
            semicolons.
        protocol: of the labels, see `with_protocol`; empty: the source's own.

    Returns:
        A picklable source with at least one frame.

    Raises:
        InputError: unknown kind, missing path, wrong kind of folder, no frame, or no calibration
            where the kind needs one; the sentence names the remedy.
    """
    texts = re.split(rf",\s*(?=(?:{'|'.join(KINDS)}):)", spec)  # a path may have commas itself
    source = _open_one(spec, options) if len(texts) == 1 else _join(spec, texts, options)
    return with_protocol(source, protocol) if protocol else source


def with_protocol(source: FrameSource, name: str) -> FrameSource:
    """The same frames with the train ids of another protocol for the same label files.

    Cityscapes' label files are read as ``cityscapes-19`` by default, or as ``cityscapes-27``.

    Raises:
        InputError: no such protocol, no labels, or labels of another numbering.
    """
    protocol = get_protocol(name)
    if not source.protocol:
        raise InputError(
            f"{source.spec} has no labels of one protocol: evaluate on labelled frames."
        )
    labels = get_protocol(source.protocol)
    if labels.label_ids != protocol.label_ids:
        fitting = [n for n, p in PROTOCOLS.items() if p.label_ids == labels.label_ids]
        raise InputError(
            f"{source.spec} has {labels.label_ids} labels, which protocol {name} does not read: "
            f"give {' or '.join(fitting)}."
        )
    changes: dict[str, Any] = {"protocol": name}
    if isinstance(source, JoinedSources):
        changes = {
            "parts": tuple(with_protocol(p, name) if p.protocol else p for p in source.parts)
        }
    changed: Any = source
    return replace(changed, **changes)


def _join(spec: str, texts: list[str], options: FrameOptions) -> Any:
    cameras = _for_each("intrinsics", options.intrinsics, len(texts))
    windows = _for_each("window", options.window, len(texts))
    parts = [
        _open_one(text, replace(options, intrinsics=camera, window=window, limit=0))
        for text, camera, window in zip(texts, cameras, windows, strict=True)
    ]
    return JoinedSources(spec, tuple(parts), options)


def _for_each(option: str, text: str, count: int) -> list[str]:
    """The values of an option for several sources, given once for all or between semicolons."""
    values = [value.strip() for value in text.split(";")]
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise InputError(
            f"--options.{option} has {len(values)} values for {count} sources: give one for all, "
            "or one for each between semicolons (it may be empty)."
        )
    return values


def _open_one(spec: str, options: FrameOptions) -> FrameSource:
    kind, colon, argument = spec.partition(":")
    if not colon or kind not in KINDS:
        raise InputError(
            f"{spec!r} does not name a source of frames: give KIND:PATH with KIND one of "
            f"{', '.join(KINDS)}.{_did_you_mean(spec)}"
        )
    if ";" in options.window:
        raise InputError(
            f"--options.window {options.window} is for several sources, but there is one."
        )
    if options.intrinsics:
        parse_intrinsics(options.intrinsics)
    source = KINDS[kind](argument, options)
    if kind != "synthetic":
        source.refs()  # refuses an empty source before work begins
    return source


def _did_you_mean(spec: str) -> str:
    kind, _, argument = spec.partition(":")
    path = Path(spec).expanduser()
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return f" Did you mean video:{spec}?"
    if path.is_dir():
        return f" Did you mean images:{spec}?"
    close = difflib.get_close_matches(kind.strip().lower(), KINDS, n=1)
    return f" Did you mean {close[0]}:{argument}?" if close else ""
