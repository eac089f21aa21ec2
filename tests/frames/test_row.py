"""Frame rows survive Parquet."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpcdr.dataset import PREPARED_SCHEMA
from cpcdr.frames import open_frames
from cpcdr.frames.row import frame_from_row, frame_row
from cpcdr.runtime.errors import FrameError


def test_round_trip_through_parquet(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "3.png"), image)
    source = open_frames(f"images:{tmp_path}")
    frame = source.read(source.refs()[0])
    table = pa.Table.from_pylist([frame_row(frame)], schema=PREPARED_SCHEMA)
    pq.write_table(table, tmp_path / "frames.parquet")
    (row,) = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    assert (row["frame_id"], row["height"], row["width"]) == (frame.ref.frame_id, 24, 32)
    back = frame_from_row(row)
    assert back.ref.frame_id == frame.ref.frame_id
    assert back.encoded == frame.encoded
    assert back.source == source.spec
    np.testing.assert_array_equal(back.image, image[..., ::-1])
    np.testing.assert_array_equal(back.intrinsics, frame.intrinsics)
    with pytest.raises(FrameError, match=frame.ref.frame_id):
        frame_from_row(row | {"image": frame.encoded[:-30]})
