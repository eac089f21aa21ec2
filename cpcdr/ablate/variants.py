"""The variants of an ablation: pre-trainings that differ from the full method in named factors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpcdr.copy_paste.config import ColourConfig
from cpcdr.runtime.config import overlay, to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig, PretrainSettings

FULL, NO_PASTE, UNTRAINED = "full", "no-copy-paste", "untrained"
_PAPER = to_plain(ColourConfig())
FACTORS: dict[str, dict[str, Any]] = {
    FULL: {},
    NO_PASTE: {"paste": False},
    "slic": {"regions": "slic"},
    "felzenszwalb": {"regions": "felzenszwalb"},
    "objects": {"regions": "objects"},
    "pixel-only": {"region_loss": False},
    "region-only": {"pixel_loss": False},
    "paper-colours": {"settings": {"copy_paste": {"colour": _PAPER, "view": {"colour": _PAPER}}}},
    "any-height": {"settings": {"copy_paste": {"vertical_jitter": 128.0}}},
    "large-zoom": {"settings": {"copy_paste": {"view": {"zoom": (1.0, 3.0)}}}},
    "half-unmixed": {"settings": {"copy_paste": {"pastes": (0, 4)}}},
    "clean-norm": {"settings": {"model": {"norm": "clean"}}},
    "separate-norm": {
        "settings": {"model": {"norm": "separate"}, "copy_paste": {"pastes": (0, 4)}}
    },
    "group-norm": {"settings": {"model": {"normalisation": "group"}}},
    "replicate-padding": {"settings": {"model": {"padding": "replicate"}}},
}
"""Named changes to the full method."""


@dataclass(frozen=True)
class Variant:
    """A pre-training with some factors changed.

    Attributes:
        paste: paste regions into other scenes. Without, the same number of images with the same
            augmentations, points and losses shows two views of each frame.
        regions: ``depth`` (ours), ``slic``, ``felzenszwalb``, or ``objects`` (connected components
            of the label map: an upper bound for regions).
        region_loss: use the region loss. A loss used alone gets the weight of both.
        trained: False for the network before its first step.
        settings: changed fields of `PretrainSettings`, nested by name.
    """

    name: str
    paste: bool = True
    regions: str = "depth"
    pixel_loss: bool = True
    region_loss: bool = True
    trained: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def variant(name: str) -> Variant:
    """The variant of a name: one of `FACTORS`, or several joined by ``+``.

    Raises:
        InputError: an unknown factor, or two that contradict each other.

    >>> variant("no-copy-paste+slic").regions
    'slic'
    """
    changes: dict[str, Any] = {}
    for factor in name.split("+"):
        if factor not in FACTORS:
            raise InputError(
                f"--variants {name}: '{factor}' is unknown; choose from {', '.join(FACTORS)}, or "
                "join several with +, such as no-copy-paste+slic."
            )
        added = dict(FACTORS[factor])
        settings = changes.get("settings", {}), added.pop("settings", {})
        if changes.keys() & added.keys():
            raise InputError(f"--variants {name}: names two kinds of regions; give one.")
        changes |= added
        if any(settings):
            changes["settings"] = _merged(*settings, name)
    result = Variant(name, **changes)
    if not (result.pixel_loss or result.region_loss):
        raise InputError(f"--variants {name}: leaves no loss; leave out pixel-only or region-only.")
    return result


def _merged(first: dict[str, Any], second: dict[str, Any], name: str) -> dict[str, Any]:
    """Nested changes of two factors together."""
    merged = dict(first)
    for key, value in second.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merged(old, value, name)
        elif old is not None:
            raise InputError(f"--variants {name}: two factors change {key}; give one of them.")
        else:
            merged[key] = value
    return merged


def without_pastes(name: str, names: Iterable[str]) -> str:
    """Of ``names`` the one that differs from a variant by its pastes alone; empty if none does.

    >>> without_pastes("clean-norm", ["full", "no-copy-paste", "no-copy-paste+clean-norm"])
    'no-copy-paste+clean-norm'
    """
    factors = frozenset(name.split("+")) - {FULL}
    if NO_PASTE in factors:
        return ""
    wanted = factors | {NO_PASTE}
    return next((each for each in names if frozenset(each.split("+")) - {FULL} == wanted), "")


def variants_of(names: Sequence[str]) -> list[Variant]:
    """The untrained network and the variants of the given names, each once, in their order.

    Raises:
        InputError: no name, or an unknown one.
    """
    if not names:
        raise InputError("--variants is empty: give some of " + ", ".join(FACTORS) + ".")
    untrained = Variant(UNTRAINED, trained=False)
    return [untrained, *(variant(name) for name in dict.fromkeys(names))]


def pretraining(
    chosen: Variant, base: PretrainSettings, data: Path, seed: int, steps: int
) -> PretrainConfig:
    """The settings of one pre-training: the base with the variant's factors."""
    base = overlay(base, chosen.settings, f"variant {chosen.name}")
    both = base.loss.pixel_weight + base.loss.region_weight
    loss = base.loss
    if not chosen.region_loss:
        loss = replace(loss, pixel_weight=both, region_weight=0.0)
    if not chosen.pixel_loss:
        loss = replace(loss, pixel_weight=0.0, region_weight=both)
    none = (0,) * len(base.copy_paste.pastes)
    pasted = base.copy_paste if chosen.paste else replace(base.copy_paste, pastes=none)
    varied = replace(base, loss=loss, copy_paste=pasted)
    return varied.config(data, seed, steps, checkpoint_every=-(-steps // 4))
