"""Lists of frames that are not held: a frame is made when it is asked for.

A drive has a hundred thousand frames, an archive a billion, and all of a video differ by their
index alone. What a list takes is memory per recording, and 16 bytes for each gap in one.
"""

from abc import abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import accumulate
from operator import attrgetter, eq
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import FrameRef

_PADDED = 10**8
"""Indices below it have eight digits in an id, so that ids are sorted as indices are."""
_frame_id = attrgetter("frame_id")


class FrameList(Sequence[FrameRef]):
    """What all lists here share: slices are as lazy as the list; equal frames make equal lists."""

    __slots__ = ()

    @abstractmethod
    def at(self, position: int) -> FrameRef:
        """The frame at a position 0..len-1."""

    @overload
    def __getitem__(self, index: int) -> FrameRef: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FrameRef]: ...
    def __getitem__(self, index: int | slice) -> FrameRef | Sequence[FrameRef]:
        everything = range(len(self))
        if not isinstance(index, slice):
            return self.at(everything[index])
        positions = everything[index]
        return self if positions == everything else Picked(self, positions)

    def __iter__(self) -> Iterator[FrameRef]:
        return map(self.at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))


class Runs:
    """Rising integers, one or more, as runs of consecutive ones: a video's indices, with gaps.

    >>> list(Runs(np.array([3, 4, 7, 8, 9])))
    [3, 4, 7, 8, 9]
    """

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        self._starts = array("q", [0, *breaks.tolist()])
        self._firsts = array("q", numbers[np.array(self._starts)].tolist())
        self._length = len(numbers)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> int:
        """The number at a position 0..len-1."""
        run = bisect_right(self._starts, position) - 1
        return self._firsts[run] + position - self._starts[run]

    def __iter__(self) -> Iterator[int]:
        ends = [*self._starts[1:], self._length]
        for start, first, end in zip(self._starts, self._firsts, ends, strict=True):
            yield from range(first, first + end - start)


@dataclass(frozen=True, eq=False, slots=True)
class Recording(FrameList):
    """Frames of one sequence that are in one file, or are computed.

    Attributes:
        indices: rising; from 10**8 on, where ids are sorted otherwise, all are held.
    """

    sequence: str
    indices: range | Runs | list[int]
    path: str = ""

    def __post_init__(self) -> None:
        if len(self.indices) and self.indices[len(self.indices) - 1] >= _PADDED:
            object.__setattr__(self, "indices", sorted(self.indices, key="{:08d}".format))

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[FrameRef]:
        return (FrameRef(self.sequence, index, self.path) for index in self.indices)

    def at(self, position: int) -> FrameRef:
        return FrameRef(self.sequence, self.indices[position], self.path)


@dataclass(frozen=True, eq=False, slots=True)
class Picked(FrameList):
    """The frames of a list at some positions."""

    frames: Sequence[FrameRef]
    positions: range

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, position: int) -> FrameRef:
        return self.frames[self.positions[position]]


@dataclass(frozen=True, eq=False, slots=True)
class Thinned(FrameList):
    """So many frames of a longer list, spread evenly, the first included."""

    frames: Sequence[FrameRef]
    most: int

    def __len__(self) -> int:
        return self.most

    def at(self, position: int) -> FrameRef:
        return self.frames[position * len(self.frames) // self.most]


@dataclass(frozen=True, eq=False, slots=True)
class Prefixed(FrameList):
    """The frames of a list with a prefix before the names of their sequences."""

    frames: Sequence[FrameRef]
    prefix: str

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[FrameRef]:
        return map(self._renamed, self.frames)

    def at(self, position: int) -> FrameRef:
        return self._renamed(self.frames[position])

    def _renamed(self, ref: FrameRef) -> FrameRef:
        return replace(ref, sequence=self.prefix + ref.sequence)


class Chained(FrameList):
    """Lists one after the other."""

    def __init__(self, parts: Sequence[Sequence[FrameRef]]) -> None:
        self._parts = parts
        self._starts = array("q", accumulate(map(len, parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[FrameRef]:
        return (ref for part in self._parts for ref in part)

    def at(self, position: int) -> FrameRef:
        part = bisect_right(self._starts, position) - 1
        return self._parts[part][position - self._starts[part]]


def merged(parts: Sequence[Sequence[FrameRef]]) -> Sequence[FrameRef]:
    """Lists that are each sorted by ``frame_id`` as one; equal ids stay in the order of ``parts``.

    The ids of recordings rarely interleave: then it is the lists one after the other.
    """
    heap = [(part[0].frame_id, order, part) for order, part in enumerate(parts) if len(part)]
    heapify(heap)
    pieces: list[Sequence[FrameRef]] = []
    while heap:
        _, order, part = heappop(heap)
        if heap and heap[0][0] <= part[-1].frame_id:
            other, other_order, _ = heap[0]
            end = bisect_right if order < other_order else bisect_left
            cut = end(part, other, key=_frame_id)
            if cut < len(part):
                heappush(heap, (part[cut].frame_id, order, part[cut:]))
            part = part[:cut]
        pieces.append(part)
    return pieces[0] if len(pieces) == 1 else Chained(pieces)
