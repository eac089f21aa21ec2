"""Labelled frames: fixed lists, what cannot be read is left out, crops that keep labels right."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from epochs import epoch_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_tree import camvid_tree

from cpcdr.frames import IGNORE, Frame, FrameRef, open_frames
from cpcdr.frames.reader import FrameReader, image_and_labels
from cpcdr.model.segmentation import ModelConfig
from cpcdr.runtime.errors import InputError
from cpcdr.train.finetune_task import FinetuneSettings, FinetuneTask
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


class Counting:
    """A source that counts, over all its copies, how often it is copied and read."""

    copies = 0
    reads: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.spec, self.protocol = STREET.spec, STREET.protocol
        self.intrinsics_note = STREET.intrinsics_note

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        Counting.copies += 1

    def refs(self) -> list[FrameRef]:
        return STREET.refs()

    def read(self, ref: FrameRef) -> Frame:
        Counting.reads.append(ref.frame_id)
        return STREET.read(ref)


def test_frames_are_decoded_once_for_all_epochs_by_one_reader_a_thread() -> None:
    model = ModelConfig("resnet10", 8, 16, 32, 16, 8)
    settings = FinetuneSettings(model=model, size=(64, 128), batch_size=3)
    task = FinetuneTask(settings, Counting())
    task = pickle.loads(pickle.dumps(task))  # as a worker gets it
    Counting.copies, Counting.reads = 0, []
    for epoch in range(3):
        assert len(epoch_batches(task, epoch)) == 4
    assert sorted(Counting.reads) == sorted(ref.frame_id for ref in STREET.refs())
    assert 1 <= Counting.copies <= 2, "one copy of the source for each of two threads"


def test_the_reader_keeps_no_more_than_its_memory() -> None:
    reader = FrameReader(Counting(), (64, 128), 2, image_and_labels)
    first, second, third = STREET.refs()[:3]
    Counting.reads = []
    for ref in (first, second, first, third, first, second):
        reader.read(ref)
    # The third pushes out the second: the first was used after it.
    assert Counting.reads == [ref.frame_id for ref in (first, second, third, second)]
