"""The variants of an ablation: pre-trainings that differ from the full method in named factors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig, PretrainSettings

FULL, NO_PASTE, UNTRAINED = "full", "no-copy-paste", "untrained"
FACTORS: dict[str, dict[str, Any]] = {
    FULL: {},
    NO_PASTE: {"paste": False},
    "slic": {"regions": "slic"},
    "felzenszwalb": {"regions": "felzenszwalb"},
    "objects": {"regions": "objects"},
    "pixel-only": {"region_loss": False},
    "region-only": {"pixel_loss": False},
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
    """

    name: str
    paste: bool = True
    regions: str = "depth"
    pixel_loss: bool = True
    region_loss: bool = True
    trained: bool = True


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
        if changes.keys() & FACTORS[factor].keys():
            raise InputError(f"--variants {name}: names two kinds of regions; give one.")
        changes |= FACTORS[factor]
    result = Variant(name, **changes)
    if not (result.pixel_loss or result.region_loss):
        raise InputError(f"--variants {name}: leaves no loss; leave out pixel-only or region-only.")
    return result


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
