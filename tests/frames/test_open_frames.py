"""Specs become sources: kinds, folders, joining, protocols, and every sentence for bad input."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.frames import FrameOptions, open_frames, with_protocol
from cpcdr.frames.frame import IGNORE
from cpcdr.frames.stored import frame_indices, natural_key
from cpcdr.runtime.errors import FrameError, InputError

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"

KITTI_P = "7.2e+01 0 30.5 4.5e+00 0 7.3e+01 20.5 0 0 0 1 0"


def write_image(path, size=(48, 64), value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


def write_labels(path, ids, size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.resize(np.array(ids, np.uint8), size))
    return path


def ids_of(source):
    return [ref.frame_id for ref in source.refs()]


# --- plain folders -------------------------------------------------------------------------------


def test_images_are_sequences_by_folder_in_natural_order(tmp_path):
    root = tmp_path / "drives"
    for name in ("b/frame10.png", "b/frame9.jpg", "a/x.png", "top1.png", ".hidden/y.png"):
        write_image(root / name)
    (root / "b" / "notes.txt").write_text("no frame")
    (root / "b" / "._frame11.png").write_text("what macOS leaves")
    source = open_frames(f"images:{root}")
    assert ids_of(source) == [
        "drives/00000000",
        "drives/a/00000000",
        "drives/b/00000000",
        "drives/b/00000001",
    ]
    assert [Path(ref.path).name for ref in source.refs()][2:] == ["frame9.jpg", "frame10.png"]
    assert source.protocol == ""
    frame = source.read(source.refs()[0])
    assert frame.encoded == (root / "top1.png").read_bytes()
    assert frame.labels is None
    assert frame.source == f"images:{root}"


def test_linked_folders_are_read_once_even_in_a_circle(tmp_path):
    write_image(tmp_path / "disk" / "1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "drive").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(root)
    assert ids_of(open_frames(f"images:{root}")) == ["root/drive/00000000"]


def test_lost_files_leave_gaps_in_the_indices():
    assert frame_indices(["d_30", "d_60", "d_91", "d_240"]) == [0, 1, 2, 7]
    assert frame_indices(["5", "5b", "6"]) == [0, 1, 2]
    assert frame_indices(["1_1", "1_99999999999"]) == [0, 1]
    assert frame_indices([]) == []


def test_natural_order():
    names = ["f10", "f9", "f09b", "g1", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "f9", "f09b", "f10", "g1"]


def test_stride_and_limit_keep_names(tmp_path):
    for folder in "ab":
        for i in range(10):
            write_image(tmp_path / folder / f"{i}.png")
    options = FrameOptions(stride=3)
    strided = open_frames(f"images:{tmp_path}", options).refs()
    assert [ref.frame_index for ref in strided] == [0, 3, 6, 9] * 2
    limited = open_frames(f"images:{tmp_path}", FrameOptions(limit=4)).refs()
    assert [(ref.sequence[-1], ref.frame_index) for ref in limited] == [
        ("a", 0),
        ("a", 5),
        ("b", 0),
        ("b", 5),
    ]


def test_window_is_a_slice_of_each_sequence(tmp_path):
    for folder in "ab":
        for i in range(10):
            write_image(tmp_path / folder / f"{i}.png")
    spec = f"images:{tmp_path}"
    rest = open_frames(spec, FrameOptions(window="6:", stride=2)).refs()
    assert [ref.frame_index for ref in rest] == [6, 8] * 2
    two = f"images:{tmp_path}/a,images:{tmp_path}/b"
    joined = open_frames(two, FrameOptions(window=";:-7")).refs()
    assert [ref.frame_index for ref in joined] == [*range(10), 0, 1, 2]
    for window, words in (("10:", "keeps no frame"), ("1-2", "first:last"), (":;:3", "several")):
        with pytest.raises(InputError, match=words):
            open_frames(spec, FrameOptions(window=window))


def test_a_frame_of_another_size_is_refused(tmp_path):
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "2.png", (24, 64))
    source = open_frames(f"images:{tmp_path}")
    source.read(source.refs()[0])
    with pytest.raises(FrameError, match=r"2\.png is 64×24, but most of its sequence is 64×48"):
        source.read(source.refs()[1])


def test_a_broken_first_frame_does_not_condemn_the_others(tmp_path):
    write_image(tmp_path / "1.png").write_bytes(b"")
    write_image(tmp_path / "2.png")
    source = open_frames(f"images:{tmp_path}")
    with pytest.raises(FrameError, match="empty"):
        source.read(source.refs()[0])
    assert source.read(source.refs()[1]).image.shape == (48, 64, 3)


# --- intrinsics ----------------------------------------------------------------------------------


def test_intrinsics_are_assumed_or_given_and_said(tmp_path):
    write_image(tmp_path / "1.png")
    assumed = open_frames(f"images:{tmp_path}", FrameOptions(fov=90))
    np.testing.assert_allclose(
        assumed.read(assumed.refs()[0]).intrinsics, [32, 32, 31.5, 23.5], rtol=1e-6
    )
    assert assumed.intrinsics_note == "assumed: 90 degrees horizontal field of view"
    given = open_frames(f"images:{tmp_path}", FrameOptions(intrinsics="50,51,30,20"))
    assert given.read(given.refs()[0]).intrinsics.tolist() == [50, 51, 30, 20]
    assert "given" in given.intrinsics_note


@pytest.mark.parametrize("text", ["50,50,30", "a,b,c,d", "0,50,30,20", "nan,50,30,20", "50 50 1 1"])
def test_bad_intrinsics_are_refused_at_once(tmp_path, text):
    write_image(tmp_path / "1.png")
    with pytest.raises(InputError, match="fx,fy,cx,cy"):
        open_frames(f"images:{tmp_path}", FrameOptions(intrinsics=text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,40,32,24", r"horizontal field of view of 176 degrees, not one in 5\.\.170"),
        ("900,900,32,24", r"horizontal field of view of 4\.07 degrees"),
        ("40,1,32,24", "vertical field of view of 175 degrees"),
    ],
)
def test_a_field_of_view_of_no_camera_is_said_in_degrees(tmp_path, text, words):
    image = write_image(tmp_path / "1.png")
    source = open_frames(f"images:{tmp_path}", FrameOptions(intrinsics=text))
    with pytest.raises(FrameError, match=rf"{image}.*{words}.*--options\.intrinsics"):
        source.read(source.refs()[0])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fov": 4}, "--options.fov 4 .* degrees in 5..170"),
        ({"fov": 171}, "--options.fov"),
        ({"stride": 0}, "--options.stride"),
        ({"window": "1-2"}, "--options.window"),
    ],
)
def test_options_are_named_as_they_are_typed(wrong, words):
    with pytest.raises(InputError, match=words):
        FrameOptions(**wrong)


def test_intrinsics_of_another_size_are_refused(tmp_path):
    write_image(tmp_path / "1.png")
    source = open_frames(f"images:{tmp_path}", FrameOptions(intrinsics="700,700,600,180"))
    with pytest.raises(FrameError, match="principal point"):
        source.read(source.refs()[0])


# --- CamVid --------------------------------------------------------------------------------------


def camvid(root):
    for name in ("0016E5_07959", "0016E5_07961", "0016E5_07967", "0006R0_f00930"):
        write_image(root / "images" / f"{name}.png")
        write_labels(root / "labels" / f"{name}.png", range(12))
    write_image(root / "images" / "0016E5_07969.png")
    return root


def test_camvid_groups_drives_and_maps_labels(tmp_path):
    source = open_frames(f"camvid:{camvid(tmp_path)}")
    assert ids_of(source) == [
        "0006R0/00000000",
        "0016E5/00000000",
        "0016E5/00000001",
        "0016E5/00000004",
        "0016E5/00000005",
    ]
    assert source.protocol == "camvid-11"
    frames = [source.read(ref) for ref in source.refs()]
    assert np.unique(frames[0].labels).tolist() == [*range(11), IGNORE]
    assert frames[-1].labels is None


def test_camvid_labels_with_unknown_ids_or_another_size(tmp_path):
    root = camvid(tmp_path)
    write_labels(root / "labels" / "0006R0_f00930.png", [0, 77])
    write_labels(root / "labels" / "0016E5_07959.png", [0], (24, 32))
    source = open_frames(f"camvid:{root}")
    with pytest.raises(FrameError, match=r"0006R0_f00930\.png.*77"):
        source.read(source.refs()[0])
    with pytest.raises(FrameError, match=r"32×24, but its image is 64×48"):
        source.read(source.refs()[1])


# --- Cityscapes ----------------------------------------------------------------------------------


def cityscapes(root):
    for number in (18, 19, 20):
        base = f"train/aachen/aachen_000003_{number:06d}"
        write_image(root / "leftImg8bit_sequence" / f"{base}_leftImg8bit.png")
        write_image(root / "rightImg8bit_sequence" / f"{base}_rightImg8bit.png")
    base = "train/aachen/aachen_000003_000019"
    write_image(root / "leftImg8bit" / f"{base}_leftImg8bit.png")
    write_labels(root / "gtFine" / f"{base}_gtFine_labelIds.png", range(34))
    base = "val/bad-honnef/bad-honnef_000000_000294"
    write_image(root / "leftImg8bit" / f"{base}_leftImg8bit.png", (24, 32))
    return root


def test_cityscapes_tree(tmp_path):
    source = open_frames(f"cityscapes:{cityscapes(tmp_path)}")
    assert ids_of(source) == [
        "train/aachen/000003/00000018",
        "train/aachen/000003/00000019",
        "train/aachen/000003/00000020",
        "val/bad-honnef/000000/00000294",
    ]
    labelled, val = source.refs()[1], source.refs()[3]
    assert labelled.right_path.endswith("aachen_000003_000019_rightImg8bit.png")
    assert val.right_path == ""
    assert source.read(source.refs()[0]).labels is None
    assert np.unique(source.read(labelled).labels).tolist() == [*range(19), IGNORE]
    assert "60 degrees" in source.intrinsics_note


def test_cityscapes_read_with_27_classes(tmp_path):
    source = with_protocol(open_frames(f"cityscapes:{cityscapes(tmp_path)}"), "cityscapes-27")
    assert source.protocol == "cityscapes-27"
    assert np.unique(source.read(source.refs()[1]).labels).tolist() == [*range(27), IGNORE]
    with pytest.raises(InputError, match="cityscapes-19 or cityscapes-27 or kitti-19"):
        with_protocol(source, "camvid-11")


def test_cityscapes_camera_files_follow_the_stored_width(tmp_path):
    root = cityscapes(tmp_path)
    camera = root / "camera/train/aachen/aachen_000003_000019_camera.json"
    camera.parent.mkdir(parents=True)
    intrinsic = {"fx": 2262.52, "fy": 2265.3, "u0": 1096.98, "v0": 513.137}
    camera.write_text(json.dumps({"intrinsic": intrinsic, "extrinsic": {"baseline": 0.209}}))
    source = open_frames(f"cityscapes:{root}")
    expected = [2262.52 / 32, 2265.3 / 32, 1097.48 / 32 - 0.5, 513.637 / 32 - 0.5]
    for ref in source.refs()[:3]:  # the snippet's other frames share the rig
        np.testing.assert_allclose(source.read(ref).intrinsics, expected, rtol=1e-5)
    assert "camera" in source.intrinsics_note
    wrong = [{"intrinsic": intrinsic | {"fx": fx}} for fx in (0, -2262.52, float("nan"))]
    wrong.append({"intrinsic": intrinsic | {"u0": float("inf")}})
    for values in ({}, *wrong):
        camera.write_text(json.dumps(values))
        with pytest.raises(FrameError, match=r"000019_camera\.json.*--options\.intrinsics"):
            source.read(source.refs()[1])


# --- KITTI ---------------------------------------------------------------------------------------


def kitti_raw(root):
    date = root / "2011_09_26"
    for i in range(3):
        for camera in ("02", "03"):
            folder = date / "2011_09_26_drive_0001_sync" / f"image_{camera}" / "data"
            write_image(folder / f"{i:010d}.png")
    (date / "calib_cam_to_cam.txt").write_text(f"calib_time: x\nP_rect_02: {KITTI_P}\n")
    return root


def test_kitti_raw_tree(tmp_path):
    source = open_frames(f"kitti-raw:{kitti_raw(tmp_path)}")
    assert ids_of(source)[2] == "2011_09_26/2011_09_26_drive_0001_sync/00000002"
    assert "image_03" in source.refs()[0].right_path
    assert source.read(source.refs()[0]).intrinsics.tolist() == [72, 73, 30.5, 20.5]


def test_kitti_odometry_tree_with_poses(tmp_path):
    for i in (0, 1, 3):
        write_image(tmp_path / "sequences/00/image_2" / f"{i:06d}.png")
    (tmp_path / "sequences/00/calib.txt").write_text(f"P0: {KITTI_P}\nP2: {KITTI_P}\n")
    (tmp_path / "poses").mkdir()
    row = "0 0 1 5 0 1 0 6 -1 0 0 7\n"
    (tmp_path / "poses/00.txt").write_text(row * 2)
    source = open_frames(f"kitti-odometry:{tmp_path}")
    frames = [source.read(ref) for ref in source.refs()]
    assert [frame.ref.frame_index for frame in frames] == [0, 1, 3]
    assert frames[2].pose is None  # ground truth ends before
    # Camera 2 is 4.5/72 m left of camera 0 here; the pose turns camera x to world -z.
    np.testing.assert_allclose(frames[1].pose[:3, 3], [5, 6, 7 + 4.5 / 72])


def test_kitti_poses_of_another_form(tmp_path):
    write_image(tmp_path / "sequences/00/image_0/000000.png")
    (tmp_path / "sequences/00/calib.txt").write_text(f"P0: {KITTI_P}\n")
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses/00.txt").write_text("1 2 3\n")
    source = open_frames(f"kitti-odometry:{tmp_path}")
    with pytest.raises(FrameError, match=r"poses/00\.txt is not a pose file"):
        source.read(source.refs()[0])


@pytest.mark.parametrize("kind", ["kitti-raw", "kitti-odometry"])
def test_kitti_without_calibration_names_the_file_and_the_remedy(tmp_path, kind):
    kitti_raw(tmp_path)
    (tmp_path / "2011_09_26/calib_cam_to_cam.txt").unlink()
    write_image(tmp_path / "sequences/00/image_0/000000.png")
    with pytest.raises(InputError, match=r"calib.*\.txt is missing.*--options.intrinsics"):
        open_frames(f"{kind}:{tmp_path}")
    given = open_frames(f"{kind}:{tmp_path}", FrameOptions(intrinsics="50,50,30,20"))
    assert given.read(given.refs()[0]).intrinsics.tolist() == [50, 50, 30, 20]


def test_kitti_calibration_without_the_matrix(tmp_path):
    kitti_raw(tmp_path)
    (tmp_path / "2011_09_26/calib_cam_to_cam.txt").write_text("P_rect_02: 1 2 3\n")
    with pytest.raises(InputError, match="P_rect_02"):
        open_frames(f"kitti-raw:{tmp_path}")


@pytest.mark.parametrize(
    "numbers",
    [
        "0 0 32 0 0 0 24 0 0 0 1 0",
        "-72 0 32 0 0 73 24 0 0 0 1 0",
        "nan 0 32 0 0 73 24 0 0 0 1 0",
        "72 0 inf 0 0 73 24 0 0 0 1 0",
        "72 0 32 0 0 73 24 0 0 0 0 0",
    ],
)
@pytest.mark.parametrize("kind", ["kitti-raw", "kitti-odometry"])
def test_kitti_calibration_that_is_no_camera(tmp_path, kind, numbers):
    kitti_raw(tmp_path)
    write_image(tmp_path / "sequences/00/image_0/000000.png")
    file = {
        "kitti-raw": "2011_09_26/calib_cam_to_cam.txt",
        "kitti-odometry": "sequences/00/calib.txt",
    }
    (tmp_path / file[kind]).write_text(f"P_rect_02: {numbers}\nP0: {numbers}\n")
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses/00.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    with pytest.raises(InputError, match=rf"{file[kind]}.*--options\.intrinsics"):
        open_frames(f"{kind}:{tmp_path}")
    given = open_frames(f"{kind}:{tmp_path}", FrameOptions(intrinsics="50,50,30,20"))
    assert given.read(given.refs()[0]).intrinsics.tolist() == [50, 50, 30, 20]


def test_kitti_semantics_tree(tmp_path):
    write_image(tmp_path / "training/image_2/000000_10.png")
    write_image(tmp_path / "training/image_2/000001_10.png", (24, 32))
    write_labels(tmp_path / "training/semantic/000000_10.png", range(34))
    calibration = tmp_path / "training/calib_cam_to_cam/000000.txt"
    calibration.parent.mkdir()
    calibration.write_text(f"P_rect_02: {KITTI_P}\n")
    source = open_frames(f"kitti-semantics:{tmp_path}")
    assert ids_of(source) == ["training/000000/00000010", "training/000001/00000010"]
    first, second = (source.read(ref) for ref in source.refs())
    assert np.unique(first.labels).tolist() == [*range(19), IGNORE]
    assert first.intrinsics[0] == 72
    assert second.labels is None
    assert source.protocol == "kitti-19"


# --- joining, pickling, bad specs ----------------------------------------------------------------


def test_idd_lite_is_split_by_drive(tmp_path):
    for drive in range(40):
        for number in (7, 300):
            stem = f"train/{drive}/frame{number}"
            write_image(tmp_path / "leftImg8bit" / f"{stem}_image.jpg")
            write_labels(tmp_path / "gtFine" / f"{stem}_label.png", [0, 3, 6, 255])
    write_image(tmp_path / "leftImg8bit/test/9/12_image.jpg")
    whole = open_frames(f"idd-lite:{tmp_path}")
    assert whole.protocol == "idd-lite-7" and len(whole.refs()) == 81
    parts = {
        name: {ref.sequence for ref in open_frames(f"idd-lite:{tmp_path},drives={name}").refs()}
        for name in ("train", "dev", "test", "unlabelled")
    }
    assert parts.pop("unlabelled") == {"test/9"}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 40
    assert len(parts["train"]) > len(parts["test"]) > len(parts["dev"]) > 0
    some = open_frames(f"idd-lite:{tmp_path},drives=train")
    frame = some.read(some.refs()[0])
    assert set(np.unique(frame.labels)) == {0, 3, 6, 255}
    assert frame.ref.frame_index in (7, 300) and "drives=train" in frame.source
    with pytest.raises(InputError, match="drives=val is unknown; give train, dev, test"):
        open_frames(f"idd-lite:{tmp_path},drives=val")


def test_joined_sources(tmp_path):
    for name in ("one", "two"):
        camvid(tmp_path / name)
    write_image(tmp_path / "plain, with comma" / "1.png")
    spec = f"camvid:{tmp_path}/one,camvid:{tmp_path}/two"
    source = open_frames(spec, FrameOptions(limit=6, intrinsics="50,50,30,20;"))
    refs = source.refs()
    assert len(refs) == 6
    assert {ref.sequence.split("/")[0] for ref in refs} == {"0", "1"}
    frames = [source.read(ref) for ref in refs]
    assert [frame.ref for frame in frames] == refs
    assert {frame.source for frame in frames} == set(spec.split(","))
    focal = {frame.ref.sequence[0]: frame.intrinsics[0] for frame in frames}
    assert focal == {"0": 50, "1": pytest.approx(55.4, abs=0.1)}
    assert source.protocol == "camvid-11"
    assert with_protocol(source, "camvid-11").protocol == "camvid-11"
    assert len(open_frames(f"images:{tmp_path}/plain, with comma").refs()) == 1
    assert len(open_frames(f"images:{tmp_path}/plain, with comma, {spec}").parts) == 3
    with pytest.raises(InputError, match="2 values for 3 sources"):
        open_frames(f"{spec},camvid:{tmp_path}/one", FrameOptions(intrinsics="50,50,30,20;"))


def test_joined_sources_of_different_protocols_have_no_labels(tmp_path):
    spec = f"camvid:{camvid(tmp_path / 'a')},cityscapes:{cityscapes(tmp_path / 'b')}"
    source = open_frames(spec)
    assert source.protocol == ""
    assert all(source.read(ref).labels is None for ref in source.refs())
    with pytest.raises(InputError, match="no labels of one protocol"):
        with_protocol(source, "camvid-11")


def test_sources_are_small_pickles_that_read_the_same(tmp_path):
    kitti_raw(tmp_path / "k")
    specs = [
        f"camvid:{camvid(tmp_path / 'v')}",
        f"cityscapes:{cityscapes(tmp_path / 'c')}",
        f"kitti-raw:{tmp_path / 'k'}",
        f"images:{tmp_path / 'v'}",
    ]
    for spec in [*specs, ",".join(specs)]:
        source = open_frames(spec)
        refs = source.refs()
        source.read(refs[0])
        data = pickle.dumps(source)
        assert len(data) < 3000
        copy = pickle.loads(data)
        assert copy.refs() == refs
        assert copy.spec == spec
        np.testing.assert_array_equal(copy.read(refs[-1]).image, source.read(refs[-1]).image)


@pytest.mark.parametrize("spec", ["", "drive.mp4", "vdeo:x.mp4", "https://x.org/a.mp4", "camvid"])
def test_unknown_kinds_list_the_kinds(spec):
    with pytest.raises(InputError, match=r"KIND:PATH.*kitti-odometry"):
        open_frames(spec)


def test_did_you_mean(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    for spec, meant in [
        ("vdeo:x.mp4", "video:x.mp4"),
        ("Cityscapes:/data", "cityscapes:/data"),
        (str(tmp_path), f"images:{tmp_path}"),
        (f"{tmp_path}/a.mp4", f"video:{tmp_path}/a.mp4"),
    ]:
        with pytest.raises(InputError) as error:
            open_frames(spec)
        assert str(error.value).endswith(f"Did you mean {meant}?")


KINDS_WITH_FOLDERS = [
    "images",
    "camvid",
    "cityscapes",
    "kitti-raw",
    "kitti-odometry",
    "kitti-semantics",
    "idd-lite",
    "video",
]


@pytest.mark.parametrize("kind", KINDS_WITH_FOLDERS)
@pytest.mark.parametrize("state", ["missing", "none given", "empty", "a file", "empty tree"])
def test_paths_that_hold_nothing(tmp_path, kind, state):
    path = tmp_path / "data"
    if state == "a file":
        path.write_text("no frames")
    elif state != "missing":
        path.mkdir()
    if state == "empty tree":
        for folder in ("images", "labels", "leftImg8bit", "sequences", "training/image_2"):
            (path / folder).mkdir(parents=True)
    with pytest.raises(InputError) as error:
        open_frames(f"{kind}:{'' if state == 'none given' else path}")
    assert not isinstance(error.value, FrameError)
    assert str(error.value).endswith(".")
    assert state == "none given" or str(path) in str(error.value)


# --- real data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "count", "first_id"),
    [
        ("camvid:camvid/clip", 101, "0016E5/00000000"),
        ("camvid:camvid/train", 365, "0001TP/00000000"),
        ("cityscapes:cityscapes", 7, "train/aachen/000000/00000019"),
        ("kitti-odometry:kitti_odometry", 51, "00/00000000"),
        ("idd-lite:idd_lite,drives=unlabelled", 404, "test/103/00206393"),
        ("idd-lite:idd_lite,drives=test", 304, "train/10/00092196"),
    ],
)
def test_real_data(spec, count, first_id):
    kind, _, path = spec.partition(":")
    if not (DATA / path.partition(",")[0]).exists():
        pytest.skip(f"no {path} in shared/data")
    source = open_frames(f"{kind}:{DATA / path}")
    refs = source.refs()
    assert (len(refs), refs[0].frame_id) == (count, first_id)
    frame = source.read(refs[0])
    assert (frame.labels is not None) == bool(source.protocol)
    if kind == "camvid" and count == 101:
        assert [ref.frame_index for ref in refs] == list(range(101))
    if kind == "kitti-odometry":
        np.testing.assert_allclose(frame.intrinsics, [707.09, 707.09, 601.89, 183.11], atol=0.01)
        np.testing.assert_allclose(frame.pose, np.eye(4), atol=1e-8)
        assert source.read(refs[1]).pose[2, 3] == pytest.approx(1.199, abs=1e-3)
