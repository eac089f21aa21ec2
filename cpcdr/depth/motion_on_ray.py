"""Looking for motion in all frames of a source, on Ray Data: what depth can be learned from."""

from collections.abc import Iterator

import pyarrow as pa

from cpcdr.depth.triplets import FrameMotion, measure_motion, runs_of_frames
from cpcdr.frames import FrameRef, FrameSource
from cpcdr.frames.reader import FrameReader
from cpcdr.runtime.map_frames import Pool, map_blocks, room_for, session_of, table_of

_SCHEMA = pa.schema([("frame_id", pa.string()), ("flow", pa.float64()), ("reason", pa.string())])


class MeasureMotion:
    """An actor: consecutive frames of one sequence in, their motion out."""

    def __init__(self, source: FrameSource, size: tuple[int, int]) -> None:
        self.reader = FrameReader(source, size, room=0)

    def __call__(self, table: pa.Table) -> pa.Table:
        refs = [FrameRef(**row) for row in table.to_pylist()]
        rows = [motion._asdict() for motion in measure_motion(self.reader, refs)]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)


def measure_on_ray(source: FrameSource, size: tuple[int, int]) -> Iterator[FrameMotion]:
    """The motion of all frames; a block of the dataset is a piece of one sequence."""
    with session_of("ray"):
        blocks = [table_of(refs) for refs in runs_of_frames(source)]
        pool = Pool(MeasureMotion, (source, size), room_for("ray").cores)
        for table in map_blocks([pool], blocks, "ray"):
            yield from (FrameMotion(**row) for row in table.to_pylist())
