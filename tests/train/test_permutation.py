"""Permutations evaluated on demand: bijective, of their key, about uniform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from cpcdr.train.permutation import ROUNDS, permuted


def keys(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(2**64, size=(count, ROUNDS), dtype=np.uint64)


def plain(number: int, size: int, key: list[int]) -> int:
    """One number, with Python's integers."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low, word = (1 << half) - 1, 2**64 - 1
    while True:
        left, right = number >> half, number & low
        for k in key:
            z = (right + k) & word
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
            left, right = right, left ^ ((z ^ (z >> 31)) & low)
        number = left << half | right
        if number < size:
            return number


@pytest.mark.parametrize("size", [*range(1, 20), 63, 64, 65, 255, 256, 257, 4097, 100_003])
def test_every_number_comes_once(size: int) -> None:
    columns = permuted(np.arange(size), size, keys(size, 3)).T
    for column in columns:
        assert np.array_equal(np.sort(column), np.arange(size))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 2**40), st.integers(0, 2**32), st.lists(st.integers(0, 2**40), max_size=5))
def test_it_agrees_with_the_plain_one(size: int, seed: int, numbers: list[int]) -> None:
    asked = np.array([number % size for number in numbers], np.int64)
    both = keys(seed, 2)
    expected = [[plain(n, size, key) for key in both.tolist()] for n in asked.tolist()]
    assert permuted(asked, size, both).tolist() == expected


def test_another_key_is_another_permutation() -> None:
    columns = permuted(np.arange(1000), 1000, keys(0, 4)).T
    for i, first in enumerate(columns):
        for second in columns[:i]:
            assert (first == second).sum() < 10, "about one number is at the same place by chance"


@pytest.mark.parametrize("size", [5, 50, 100])
def test_each_number_goes_everywhere_equally_often(size: int) -> None:
    draws = 200 * size
    columns = permuted(np.array([0, 1, size // 2, size - 1]), size, keys(1, draws))
    for places in columns:
        expected = draws / size
        statistic = ((np.bincount(places, minlength=size) - expected) ** 2 / expected).sum()
        assert chi2.sf(statistic, size - 1) > 1e-4
    # Neighbours go apart: the step from one to the next is uniform as well, and never none.
    steps = np.bincount((columns[1] - columns[0]) % size, minlength=size)
    assert steps[0] == 0
    expected = draws / (size - 1)
    assert chi2.sf(((steps[1:] - expected) ** 2 / expected).sum(), size - 2) > 1e-4
