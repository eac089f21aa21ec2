"""Label ids become train ids by the published tables."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cpcdr.frames.decode import read_label_map
from cpcdr.frames.frame import IGNORE
from cpcdr.frames.protocols import PROTOCOLS, evaluation_size, get_protocol
from cpcdr.runtime.errors import FrameError, InputError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def test_names_and_class_counts():
    counts = {name: len(protocol.classes) for name, protocol in PROTOCOLS.items()}
    assert counts == {
        "cityscapes-19": 19,
        "cityscapes-27": 27,
        "kitti-19": 19,
        "camvid-11": 11,
        "idd-lite-7": 7,
        "synthetic": 7,
        "synthetic-14": 14,
    }
    assert get_protocol("synthetic-14").classes == get_protocol("cityscapes-19").classes[:14]
    assert get_protocol("synthetic-14").classes[-1] == "car"


def test_the_synthetic_protocol_has_cityscapes_categories():
    fine, coarse = get_protocol("synthetic-14"), get_protocol("synthetic")
    ids = np.arange(14, dtype=np.uint8)[None]
    names = [coarse.classes[i] for i in coarse.train_ids(ids, "ids")[0]]
    assert dict(zip(fine.classes, names, strict=True)) == {
        "road": "flat",
        "sidewalk": "flat",
        "building": "construction",
        "wall": "construction",
        "fence": "construction",
        "pole": "object",
        "traffic light": "object",
        "traffic sign": "object",
        "vegetation": "nature",
        "terrain": "nature",
        "sky": "sky",
        "person": "human",
        "rider": "human",
        "car": "vehicle",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
def test_every_class_is_reached(protocol):
    reached = protocol.mapping[(protocol.mapping >= 0) & (protocol.mapping != IGNORE)]
    assert set(reached.tolist()) == set(range(len(protocol.classes)))
    merges = protocol.name == "synthetic"  # 14 ids in 7 categories; elsewhere one id a class
    assert (len(reached) == len(protocol.classes)) != merges
    assert protocol.colours.shape == (len(protocol.classes), 3)
    assert protocol.colours.dtype == np.uint8
    assert pickle.loads(pickle.dumps(protocol)).classes == protocol.classes


def test_cityscapes_27_are_label_ids_in_order_with_centre_crop():
    protocol = get_protocol("cityscapes-27")
    assert protocol.mapping[7:34].tolist() == list(range(27))
    assert set(protocol.mapping[:7].tolist()) == {IGNORE}
    assert protocol.crop == 320
    assert get_protocol("cityscapes-19").crop == 0


def test_a_protocol_of_one_size_takes_no_other():
    crop, free = get_protocol("cityscapes-27"), get_protocol("cityscapes-19")
    assert evaluation_size(crop, (0, 0), (96, 192)) == (320, 320)
    assert evaluation_size(crop, (320, 320), (96, 192)) == (320, 320)
    with pytest.raises(InputError, match=r"--size 96 192: protocol cityscapes-27 .* 320×320"):
        evaluation_size(crop, (96, 192), (96, 192))
    for protocol in (free, None):
        assert evaluation_size(protocol, (0, 0), (96, 192)) == (96, 192)
        assert evaluation_size(protocol, (64, 128), (96, 192)) == (64, 128)


def test_known_pairs_of_cityscapes_19():
    mapping = get_protocol("cityscapes-19").mapping
    pairs = {7: 0, 8: 1, 11: 2, 17: 5, 18: IGNORE, 19: 6, 26: 13, 29: IGNORE, 31: 16, 33: 18}
    assert {label: int(mapping[label]) for label in pairs} == pairs


def test_camvid_void_is_ignored():
    ids = np.arange(12, dtype=np.uint8)[None]
    assert get_protocol("camvid-11").train_ids(ids, "x").tolist() == [[*range(11), IGNORE]]


@pytest.mark.parametrize("bad", [34, 200, 1000, -1])
def test_unknown_ids_name_the_file_and_ids(bad):
    ids = np.array([[7, bad]], np.int32)
    with pytest.raises(FrameError, match=rf"a_labelIds\.png.*{bad}"):
        get_protocol("cityscapes-19").train_ids(ids, "a_labelIds.png")


def test_unknown_protocol_lists_the_names():
    with pytest.raises(InputError, match=r"cityscapes-27.*Did you mean cityscapes-19"):
        get_protocol("cityscapes19")


def test_cityscapes_table_agrees_with_the_data_sets_own_train_ids():
    root = DATA / "cityscapes" / "gtFine"
    train_files = sorted(root.rglob("*_labelTrainIds.png"))
    if not train_files:
        pytest.skip("no Cityscapes labelTrainIds in shared/data")
    mapping = get_protocol("cityscapes-19").mapping
    for file in train_files:
        label_ids = read_label_map(str(file).replace("labelTrainIds", "labelIds"))
        train_ids = read_label_map(str(file))
        for label_id in np.unique(label_ids):
            found = np.bincount(train_ids[label_ids == label_id], minlength=256)
            # This small pair was resampled file by file, so a few boundary pixels differ.
            assert found.argmax() == mapping[label_id]
            assert found.max() > 0.95 * found.sum()
