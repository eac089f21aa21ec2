"""Labelled frames: fixed lists, what cannot be read is left out, crops that keep labels right."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_tree import camvid_tree

from cpcdr.frames import IGNORE, open_frames
from cpcdr.runtime.errors import InputError
from cpcdr.train.labelled import chosen_refs, random_crop, require_labels, survey

STREET = open_frames("synthetic:seed=3,streets=6,frames=2,height=64,width=128")


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    whole = [ref.frame_id for ref in chosen_refs(STREET, 1.0)]
    half = [ref.frame_id for ref in chosen_refs(STREET, 0.5)]
    few = [ref.frame_id for ref in chosen_refs(STREET, 1 / 30)]
    assert len(whole) == 12 and len(half) == 6 and len(few) == 1
    assert set(few) < set(half) < set(whole)
    assert half == [ref.frame_id for ref in chosen_refs(STREET, 0.5)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.4, 2.5))
def test_crops_keep_image_and_labels_together(seed: int, scale: float) -> None:
    rows, columns = np.indices((40, 60))
    labels = (rows // 10 + 4 * (columns // 20)).astype(np.uint8)
    image = np.repeat((labels * 20)[..., None], 3, axis=2)
    rng = np.random.default_rng(seed)
    crop, cut = random_crop(image, labels, (32, 48), (scale, scale), rng)
    assert crop.shape == (32, 48, 3) and cut.shape == (32, 48)
    known = cut != IGNORE
    agree = np.abs(crop[..., 0].astype(int) - 20 * cut.astype(int)) <= 10
    assert agree[known].mean() > 0.8, "but for blurred borders"
    assert (crop[~known] == 0).all()


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path) -> None:
    source = camvid_tree(tmp_path)
    (tmp_path / "labels" / "A_000.png").unlink()  # no labelled frame, so nothing is wrong with it
    (tmp_path / "labels" / "A_001.png").write_bytes(b"")
    image = tmp_path / "images" / "A_004.jpg"
    image.write_bytes(image.read_bytes()[:500])
    refs = chosen_refs(source, 1.0)
    found = survey(source, refs)
    assert [ref.frame_index for ref in found.refs] == [2, 3, 5]
    assert list(found.rejected) == ["A/00000001", "A/00000004"]
    assert "A_001.png is empty" in found.rejected["A/00000001"]
    assert "A_004.jpg" in found.rejected["A/00000004"]
    labels = [source.read(ref).labels for ref in found.refs]
    assert found.pixels.tolist() == [sum(int((x == k).sum()) for x in labels) for k in range(11)]
    require_labels(source)


def test_nothing_to_use_is_a_sentence(tmp_path: Path) -> None:
    source = camvid_tree(tmp_path)
    for path in (tmp_path / "labels").iterdir():
        write_labels(path, 25)
    for check in (lambda: survey(source, chosen_refs(source, 1.0)), lambda: require_labels(source)):
        with pytest.raises(InputError, match=r"none of 6 .*A_000\.png holds label ids 25"):
            check()
    for path in (tmp_path / "labels").iterdir():
        write_labels(path, 11)
    for check in (lambda: survey(source, chosen_refs(source, 1.0)), lambda: require_labels(source)):
        with pytest.raises(InputError, match="all of it is void"):
            check()
    for path in (tmp_path / "labels").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no frame has a label map"):
        require_labels(source)


def write_labels(path: Path, value: int) -> None:
    cv2.imwrite(str(path), np.full((64, 128), value, np.uint8))
