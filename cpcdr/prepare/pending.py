"""The frames of a source that are not prepared yet, found without a set of all that are."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, islice
from operator import methodcaller

import pyarrow as pa
import pyarrow.compute as pc

from cpcdr.frames.frame import FrameRef

_TOGETHER = 2**16
"""Frames whose ids are looked up at once."""
_text = methodcaller("as_py")


@dataclass(frozen=True, eq=False)
class Pending:
    """Frames but those that are done, in their order; its length is counted once.

    Attributes:
        refs: sorted by ``frame_id``.
        done: strings, sorted: the ids that are left out, and any others.
    """

    refs: Sequence[FrameRef]
    done: pa.Array

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[FrameRef]:
        if not len(self.done):
            yield from self.refs
            return
        for refs, done in self._lookups():
            yield from compress(refs, pc.invert(done).to_pylist())

    @cached_property
    def _count(self) -> int:
        if not len(self.done):
            return len(self.refs)
        return len(self.refs) - sum(pc.sum(done).as_py() for _, done in self._lookups())

    def _lookups(self) -> Iterator[tuple[list[FrameRef], pa.BooleanArray]]:
        """Frames that follow each other, and which of them are done."""
        rest, start = iter(self.refs), 0
        while refs := list(islice(rest, _TOGETHER)):
            ids = [ref.frame_id for ref in refs]
            # Both are sorted: only ids of this stretch are compared, however many are done.
            start = bisect_left(self.done, ids[0], lo=start, key=_text)
            end = bisect_right(self.done, ids[-1], lo=start, key=_text)
            done = self.done.slice(start, end - start)
            yield refs, pc.is_in(pa.array(ids, self.done.type), value_set=done)
