"""Spaces from YAML, and where their values go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig
from cpcdr.tune.propose import distribution
from cpcdr.tune.space import (
    PLACES,
    REGION_SPACE,
    TRAINING_SPACE,
    Range,
    as_yaml,
    check_space,
    present,
    read_space,
    settings,
    space_from,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return path


def test_every_kind_is_read(tmp_path: Path) -> None:
    text = """
    separation: {uniform: [0.1, 0.4]}
    gain: {loguniform: [16, 144]}
    superpixels: {int: [5000, 40000]}
    prototypes: {choice: [64, 100]}
    bias: 4
    """
    space = read_space(written(tmp_path, text))
    assert space["separation"] == Range("uniform", (0.1, 0.4))
    assert space["gain"] == Range("loguniform", (16.0, 144.0))
    assert space["bias"] == Range("choice", (4.0,))
    assert space_from(as_yaml(space), "again") == space
    random = np.random.default_rng(0)
    for chosen in space.values():
        drawn = [chosen.draw(random) for _ in range(200)]
        assert all(chosen.holds(value) for value in drawn)
        assert all(
            distribution(chosen)._contains(distribution(chosen).to_internal_repr(v)) for v in drawn
        )
    ends = [space["superpixels"].draw(random) for _ in range(3000)]
    assert isinstance(ends[0], int) and min(ends) < 5100 and max(ends) > 39900
    octaves = np.log2([space["gain"].draw(random) for _ in range(3000)])
    assert abs(np.median(octaves) - np.log2([16, 144]).mean()) < 0.1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("seperation: {uniform: [0, 1]}", "separation, gain"),
        ("gain: {uniform: [5, 2]}", "the lower one first"),
        ("gain: {uniform: [5]}", "two values"),
        ("gain: {normal: [0, 1]}", "write one of uniform"),
        ("gain: {choice: []}", "write one of uniform"),
        ("gain: {choice: [big]}", "must be a number"),
        ("separation: {uniform: [-0.1, 0.3]}", "must be a number ≥ 0"),
        ("bias: {loguniform: [-1, 2]}", "lower end above 0"),
        ("prototypes: {uniform: [64, 100]}", "takes integers"),
        ("prototypes: {choice: [64, 70.5]}", "takes integers"),
        ("gain: {int: [16, 20]}", "give uniform"),
        ("{}", "is empty; write lines"),
        ("- gain", "mapping"),
    ],
)
def test_an_invalid_space_is_one_sentence(tmp_path: Path, line: str, says: str) -> None:
    path = written(tmp_path, line)
    with pytest.raises(InputError, match=r"space\.yaml") as raised:
        read_space(path)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_a_configuration_refuses_before_anything_starts() -> None:
    with pytest.raises(InputError, match="separation"):
        check_space({"separation": Range("uniform", (0.5, 1.5))}, RegionConfig(), PretrainConfig())


@pytest.mark.parametrize("name", sorted(PLACES))
def test_a_value_arrives_where_it_belongs_and_nowhere_else(name: str) -> None:
    before = present(PLACES, RegionConfig(), PretrainConfig())
    value = before[name] / 2 + (3 if PLACES[name].whole else 0.0625)
    value = int(value) if PLACES[name].whole else value
    assert value != before[name]
    after = present(PLACES, *settings({name: value}, RegionConfig(), PretrainConfig()))
    assert after == before | {name: value}


def test_the_default_spaces_hold_the_defaults() -> None:
    for space in (REGION_SPACE, TRAINING_SPACE):
        found = present(space, RegionConfig(), PretrainConfig())
        assert all(space[name].holds(value) for name, value in found.items()), found


def test_narrowing() -> None:
    assert Range("uniform", (0.0, 1.0)).narrowed([0.4, 0.2, 0.3]) == Range("uniform", (0.2, 0.4))
    assert Range("int", (1, 9)).narrowed([4, 4]) == Range("choice", (4,))
    assert Range("choice", (1, 2, 5)).narrowed([5, 1, 5]) == Range("choice", (1, 5))
