"""The order of an epoch: which frames make which item."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cpcdr.runtime.errors import InputError
from cpcdr.train.permutation import ROUNDS, permuted

MOST_IN_MEMORY = 2**24
"""Frames whose order is drawn at once, in 64 MiB. Another number changes trainings."""


class EpochOrder:
    """Which frames make which item of M frames in an epoch: a function of (seed, epoch) alone.

    The dataset is cut into M equal stretches, at a place that changes with the epoch, and each item
    takes one frame of every stretch: its frames are far apart in the recordings.

    >>> order = EpochOrder(frames=9, per_item=2, seed=0, epoch=0)
    >>> len(order), order[[0, 3]].shape
    (4, (2, 2))
    """

    def __init__(
        self, frames: int, per_item: int, seed: int, epoch: int, most: int = MOST_IN_MEMORY
    ) -> None:
        """Draw the order.

        Args:
            most: with more frames, the order is evaluated where it is asked, in no memory.

        Raises:
            InputError: there are fewer frames than one item needs.
        """
        if frames < per_item:
            raise InputError(
                f"the dataset has {frames} frames, but a mosaic needs {per_item}; "
                "prepare more frames, or lower --frames-per-item."
            )
        generator = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        self._frames, self._items = frames, frames // per_item
        start = int(generator.integers(frames))
        self._starts = start + self._items * np.arange(per_item)
        self._table: NDArray[np.int32] | None = None
        if frames <= most:
            self._table = np.empty((self._items, per_item), np.int32)
            for column, first in enumerate(self._starts):
                stretch = (first + np.arange(self._items)) % frames
                self._table[:, column] = generator.permutation(stretch)
        else:
            self._keys = generator.integers(2**64, size=(per_item, ROUNDS), dtype=np.uint64)

    def __len__(self) -> int:
        """Items of the epoch: no frame is in two of them."""
        return self._items

    def __getitem__(self, items: Sequence[int]) -> NDArray[np.int64]:
        """The frames of the given items: int64 [items, M]."""
        numbers = np.asarray(items, np.int64)
        if self._table is not None:
            return self._table[numbers].astype(np.int64)
        return (self._starts + permuted(numbers, self._items, self._keys)) % self._frames
