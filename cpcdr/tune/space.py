"""The search space: a range for each parameter, and the setting that each parameter changes.

A space is a YAML file with one line per parameter:

    separation: {uniform: [0.05, 0.5]}      # any number between the two
    gain: {loguniform: [16, 144]}           # log-uniform between the two
    superpixels: {int: [5000, 40000]}       # whole numbers, both ends included
    prototypes: {choice: [64, 100, 200]}    # one of these
    bias: 4.0                               # fixed
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import as_number, read_yaml, shown
from cpcdr.runtime.errors import InputError

if TYPE_CHECKING:  # tasks that only group regions need no PyTorch
    from cpcdr.train.config import PretrainSettings

Parameters = dict[str, Any]
"""A value for each parameter of a space."""


@dataclass(frozen=True)
class Place:
    """The setting that a parameter changes.

    Attributes:
        section: ``regions``, ``model``, ``loss``, ``train`` or ``copy_paste``.
        least: smallest legal value.
        whole: whether it must be an integer.
        index: of the entry if the field is a list; -1 otherwise.
    """

    section: str
    field: str
    least: float = 0.0
    whole: bool = False
    index: int = -1


_TINY = 1e-6
PLACES = {
    "separation": Place("regions", "separation"),
    "gain": Place("regions", "gain", _TINY),
    "bias": Place("regions", "bias", -math.inf),
    "superpixels": Place("regions", "superpixels", 1, whole=True),
    "min_superpixels": Place("regions", "min_superpixels", 0, whole=True),
    "compactness": Place("regions", "compactness", _TINY),
    "colour_weight": Place("regions", "colour_weight"),
    "plane_weight": Place("regions", "plane_weight"),
    "centre_weight": Place("regions", "centre_weight"),
    "preferred_modules": Place("regions", "preferred_modules", 0, whole=True),
    "prototypes": Place("model", "prototypes", 2, whole=True),
    "temperature": Place("loss", "temperature", _TINY),
    "epsilon": Place("loss", "epsilon", _TINY),
    "pixel_weight": Place("loss", "pixel_weight"),
    "region_weight": Place("loss", "region_weight"),
    "lr": Place("train", "lr", _TINY),
    "weight_decay": Place("train", "weight_decay"),
    "pastes_round_1": Place("copy_paste", "pastes", 0, whole=True, index=0),
    "pastes_round_2": Place("copy_paste", "pastes", 0, whole=True, index=1),
}


@dataclass(frozen=True)
class Range:
    """The values that a parameter may take.

    Attributes:
        kind: ``uniform``, ``loguniform``, ``int`` or ``choice``.
        values: the two ends, or the choices.
    """

    kind: str
    values: tuple[Any, ...]

    def draw(self, random: np.random.Generator) -> Any:
        """A value at random."""
        if self.kind == "choice":
            return self.values[int(random.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "int":
            return int(random.integers(low, high + 1))
        if self.kind == "loguniform":
            return float(np.exp(random.uniform(math.log(low), math.log(high))))
        return float(random.uniform(low, high))

    def holds(self, value: Any) -> bool:
        """Whether the value is in the range."""
        if self.kind == "choice":
            return value in self.values
        return self.values[0] <= value <= self.values[1]

    def narrowed(self, values: Iterable[Any]) -> Range:
        """The smallest range of this kind that contains the values."""
        distinct = sorted(set(values))
        if self.kind == "choice":
            return Range("choice", tuple(v for v in self.values if v in distinct))
        if len(distinct) == 1:
            return Range("choice", (distinct[0],))
        return Range(self.kind, (distinct[0], distinct[-1]))


Space = dict[str, Range]
_KINDS = ("uniform", "loguniform", "int", "choice")

REGION_SPACE: Space = {
    "separation": Range("loguniform", (0.02, 0.2)),
    "gain": Range("loguniform", (1.0, 4.0)),
    "bias": Range("uniform", (3.0, 5.0)),
    "superpixels": Range("choice", (2500, 5000, 10000)),
    "min_superpixels": Range("choice", (0, 5, 10, 20)),
    "colour_weight": Range("choice", (0.5, 1.0, 2.0, 4.0)),
    "plane_weight": Range("choice", (0.5, 1.0, 2.0)),
    "prototypes": Range("choice", (64, 100, 200, 300)),
    "temperature": Range("loguniform", (0.05, 0.2)),
    "epsilon": Range("loguniform", (0.008, 0.05)),
}
TRAINING_SPACE: Space = {
    "lr": Range("loguniform", (3e-4, 1e-2)),
    "prototypes": Range("choice", (64, 100, 200, 300)),
    "pixel_weight": Range("uniform", (0.0, 1.0)),
    "region_weight": Range("uniform", (0.1, 1.0)),
    "pastes_round_1": Range("int", (0, 4)),
    "pastes_round_2": Range("int", (0, 6)),
}


def read_space(path: Path) -> Space:
    """A space from a YAML file.

    Raises:
        InputError: the file cannot be read, a parameter is unknown or a range is invalid.
    """
    return space_from(read_yaml(path), str(path))


def space_from(values: Mapping[str, Any], where: str) -> Space:
    """As `read_space`, from the content of the file; ``where`` is named in errors."""
    if not values:
        raise InputError(f"{where}: is empty; write lines such as gain: 48.")
    return {name: _range(f"{where}: {name}", name, value) for name, value in values.items()}


def _range(where: str, name: str, written: Any) -> Range:
    if name not in PLACES:
        raise InputError(f"{where[:200]} is not a parameter; choose from {', '.join(PLACES)}.")
    if not isinstance(written, Mapping):
        written = {"choice": [written]}
    kind, values = next(iter(written.items()), ("", None))
    if len(written) != 1 or kind not in _KINDS or not isinstance(values, list) or not values:
        raise InputError(
            f"{where}: write one of uniform, loguniform, int: [low, high], or choice: [values]."
        )
    place = PLACES[name]
    values = [_checked(where, place, value) for value in values]
    if place.whole and (kind not in ("int", "choice") or any(v != int(v) for v in values)):
        raise InputError(f"{where}: takes integers; give int: [low, high] or choice: [values].")
    if kind != "choice" and (len(values) != 2 or values[0] >= values[1]):
        raise InputError(f"{where}: {kind} needs two values, the lower one first.")
    if kind == "int" and not place.whole:
        raise InputError(f"{where}: is continuous; give uniform or loguniform: [low, high].")
    if kind == "loguniform" and values[0] <= 0:
        raise InputError(f"{where}: loguniform needs a lower end above 0.")
    return Range(kind, tuple(int(v) if place.whole else float(v) for v in values))


def _checked(where: str, place: Place, written: Any) -> int | float:
    value = as_number(written)
    if value is None or not math.isfinite(value) or value < place.least:
        raise InputError(f"{where}: {shown(written)} must be a number ≥ {place.least:g}.")
    return value


def settings(
    parameters: Parameters, regions: RegionConfig, pretrain: PretrainSettings
) -> tuple[RegionConfig, PretrainSettings]:
    """The configurations with the values of a trial.

    Raises:
        InputError: a configuration refuses the values.
    """
    sections = _sections(regions, pretrain)
    for name, value in parameters.items():
        if name not in PLACES:
            raise InputError(f"{name} is not a parameter; choose from {', '.join(PLACES)}.")
        place = PLACES[name]
        section = sections[place.section]
        if place.index >= 0:
            entries = list(getattr(section, place.field))
            entries[place.index] = value
            value = tuple(entries)
        sections[place.section] = replace(section, **{place.field: value})
    return sections.pop("regions"), replace(pretrain, **sections)


def _sections(regions: RegionConfig, pretrain: PretrainSettings) -> dict[str, Any]:
    """The configurations that parameters change, by the names that `Place` has for them."""
    names = ("model", "loss", "train", "copy_paste")
    return {"regions": regions, **{name: getattr(pretrain, name) for name in names}}


def present(names: Iterable[str], regions: RegionConfig, pretrain: PretrainSettings) -> Parameters:
    """The current values of parameters in the configurations.

    Raises:
        InputError: the configuration has no such entry.
    """
    parameters: Parameters = {}
    sections = _sections(regions, pretrain)
    for name in names:
        place = PLACES[name]
        value = getattr(sections[place.section], place.field)
        if place.index >= 0 and place.index >= len(value):
            raise InputError(f"{name}: this configuration has {len(value)} rounds of pastes.")
        parameters[name] = value[place.index] if place.index >= 0 else value
    return parameters


def check_space(space: Space, regions: RegionConfig, pretrain: PretrainSettings) -> None:
    """Check both ends of every range before anything starts.

    Raises:
        InputError: a configuration refuses an end of a range.
    """
    present(space, regions, pretrain)
    for name, bounds in space.items():
        for value in (bounds.values[0], bounds.values[-1]):
            try:
                settings({name: value}, regions, pretrain)
            except InputError as error:
                raise InputError(f"--space: {name}: {error}") from error


def as_yaml(space: Space) -> dict[str, Any]:
    """The space as the content of a YAML file for `read_space`."""
    return {name: {one.kind: list(one.values)} for name, one in space.items()}
