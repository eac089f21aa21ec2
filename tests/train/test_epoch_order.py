"""The order of an epoch, in memory and evaluated on demand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.runtime.errors import InputError
from cpcdr.train.epoch_order import MOST_IN_MEMORY, EpochOrder

frames_and_items = st.integers(1, 9).flatmap(
    lambda m: st.tuples(st.integers(m, 200), st.just(m), st.integers(0, 99), st.integers(0, 99))
)
both = pytest.mark.parametrize("most", [MOST_IN_MEMORY, 0], ids=["in memory", "on demand"])


def items_of(order: EpochOrder) -> np.ndarray:
    """All items at once: [items, M]."""
    return order[range(len(order))]


def plain(frames: int, per_item: int, seed: int, epoch: int) -> np.ndarray:
    """The order of datasets that fit into memory, which trainings are bit-equal by."""
    generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    items = frames // per_item
    start = int(generator.integers(frames))
    stretches = (start + np.arange(items * per_item)).reshape(per_item, items) % frames
    return np.stack([generator.permutation(stretch) for stretch in stretches], axis=1)


@settings(deadline=None)
@given(frames_and_items)
def test_it_agrees_with_the_plain_one(drawn: tuple[int, int, int, int]) -> None:
    order, expected = EpochOrder(*drawn), plain(*drawn)
    assert np.array_equal(items_of(order), expected) and len(order) == len(expected)
    assert order[[0]].dtype == np.int64 and np.array_equal(order[[0]], expected[[0]])


@both
@settings(deadline=None)
@given(drawn=frames_and_items)
def test_an_epoch_uses_no_frame_twice_and_takes_them_from_far_apart(
    drawn: tuple[int, int, int, int], most: int
) -> None:
    frames, per_item, seed, epoch = drawn
    items = items_of(EpochOrder(frames, per_item, seed, epoch, most))
    assert items.shape == (frames // per_item, per_item)
    assert len(np.unique(items)) == items.size
    assert items.min() >= 0
    assert items.max() < frames
    # Each frame of an item is from a stretch of its own. Cut the circle where the epoch cuts it:
    # frames of neighbouring stretches may touch, those of stretches further apart cannot.
    stretch = frames // per_item
    for item in items:
        for i, j in itertools.combinations(range(per_item), 2):
            apart = (item[j] - item[i]) % frames
            assert (j - i - 1) * stretch < apart < (j - i + 1) * stretch


@both
def test_the_order_is_a_function_of_seed_and_epoch(most: int) -> None:
    first = items_of(EpochOrder(100, 8, seed=1, epoch=2, most=most))
    assert np.array_equal(first, items_of(EpochOrder(100, 8, seed=1, epoch=2, most=most)))
    for seed, epoch in ((1, 3), (2, 2)):
        assert not np.array_equal(first, items_of(EpochOrder(100, 8, seed, epoch, most)))


@both
def test_every_frame_is_seen_in_a_few_epochs(most: int) -> None:
    orders = (EpochOrder(101, 8, seed=0, epoch=epoch, most=most) for epoch in range(25))
    assert {int(i) for order in orders for i in items_of(order).reshape(-1)} == set(range(101))


def test_a_billion_frames_take_no_memory() -> None:
    order = EpochOrder(10**9, 8, seed=0, epoch=0)
    items = order[[0, 1, len(order) - 1]]
    assert len(order) == 125_000_000 and len(np.unique(items)) == 24
    assert items.min() >= 0 and items.max() < 10**9
    assert np.array_equal(items[1:2], order[[1]])


def test_too_few_frames_for_one_item_is_said() -> None:
    with pytest.raises(InputError, match="7 frames, but a mosaic needs 8"):
        EpochOrder(7, 8, 0, 0)
