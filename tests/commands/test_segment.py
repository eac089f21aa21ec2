"""Using networks: fine-tuned and pre-trained ones, in memory, as video, as labels, as ONNX."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import cpcdr
from cpcdr.commands.export import export, register
from cpcdr.commands.probe import probe
from cpcdr.commands.segment import segment
from cpcdr.evaluate.config import ProbeConfig
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.matching import scores
from cpcdr.evaluate.probes import grid_labels
from cpcdr.evaluate.supervised import ClassSegmenter
from cpcdr.frames import Frame, FrameRef, get_protocol, open_frames
from cpcdr.frames.decode import read_label_map
from cpcdr.frames.pick import whole_size
from cpcdr.frames.resize import fit
from cpcdr.loss.config import LossConfig
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import FinetuneModule, load_finetuned
from cpcdr.prepare.draft import Draft
from cpcdr.prepare.stages import ReadFrames
from cpcdr.runtime.checkpoint import write_checkpoint
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.segment.config import ExportConfig, SegmentConfig
from cpcdr.segment.load import load_network_for_use
from cpcdr.segment.parts import cut
from cpcdr.segment.pyfunc import ImagesToClasses
from cpcdr.train.finetune_config import FinetuneSettings
from cpcdr.train.pretrain_task import PretrainModule

MODEL = ModelConfig("resnet10", 8, 16, 32, 16, 40)
STREET = "synthetic:seed=3,streets=2,frames=3,height=64,width=128"
PROTOCOL = get_protocol("synthetic")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = FinetuneModule(MODEL, len(PROTOCOL.classes)).state_dict()
    settings = FinetuneSettings(model=MODEL, size=(64, 128))
    values = {"kind": "finetune", "config": {**to_plain(settings), "protocol": "synthetic"}}
    return write_checkpoint(tmp_path_factory.mktemp("finetuned"), 1, values, weights, {})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretrained(tmp_path_factory.mktemp("pretrained"), MODEL)


def write_pretrained(root: Path, model: ModelConfig) -> Path:
    torch.manual_seed(0)
    weights = PretrainModule(model, LossConfig()).state_dict()
    config = {"model": to_plain(model), "seed": 0, "dataset": {"hash": "x", "size": [64, 128]}}
    return write_checkpoint(root, 1, {"kind": "pretrain", "config": config}, weights, {})


def test_three_lines_in_a_notebook(finetuned: Path, pretrained: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (150, 260, 3)).astype(np.uint8)
    network = cpcdr.load(finetuned)
    ids = network.segment(image)
    assert ids.dtype == np.uint8 and ids.shape == (150, 260) and network.names == PROTOCOL.classes
    assert ids.max() < len(network.names)
    assert network.overlay(image).shape == image.shape
    assert repr(network) == "LoadedNetwork(resnet10, 7 classes, trained at 128x64, cpu)"
    assert repr(cpcdr.load(pretrained)).startswith("LoadedNetwork(resnet10, 19 clusters, ")
    batch = [image[:99], image]
    for one, each in zip(network.segment_all(batch), batch, strict=True):
        np.testing.assert_array_equal(one, network.segment(each))
    backbone = network.backbone
    maps = backbone(backbone.normalisation(torch.rand(1, 3, 64, 128)))
    assert [m.shape[1] for m in maps] == backbone.channels == [8, 8, 16, 32, 64]
    assert [128 // m.shape[3] for m in maps] == backbone.strides
    picture = Image.fromarray(image)
    np.testing.assert_array_equal(network.segment(picture), ids)
    np.testing.assert_array_equal(network.overlay(picture), network.overlay(image))
    assert cpcdr.load(pretrained).names[3] == "cluster 3"
    few = cpcdr.load(pretrained, clusters=4)
    assert len(few.names) == 4 and few.segment(image).max() < 4


@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
def test_several_at_once_are_as_one_by_one(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A GPU takes several images of one size at once; here the CPU does, whatever sizes come."""
    network, rng = cpcdr.load(request.getfixturevalue(kind)), np.random.default_rng(0)
    sizes = [(64, 128)] * 4 + [(90, 130), (64, 128), (90, 130), (90, 130)]
    images = [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for size in sizes]
    one_by_one = [network.segment(image) for image in images]
    passes = list[int]()
    scores = network.segmenter.scores

    def counted(batch: np.ndarray) -> torch.Tensor:
        passes.append(len(batch))
        return scores(batch)

    monkeypatch.setattr(network.segmenter, "scores", counted)
    monkeypatch.setattr("cpcdr.segment.load.images_at_once", lambda device, size: 3)
    for together, alone in zip(network.segment_all(images), one_by_one, strict=True):
        assert together.shape == alone.shape and (together == alone).mean() > 0.999
    assert passes == [3, 1, 1, 1, 2]


def test_windows_and_flips_agree_with_the_whole_where_they_must(finetuned: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    plain, window = ClassSegmenter(finetuned, flip=False), ClassSegmenter(finetuned, (64, 128))
    plain.load()
    window.load()
    mirrored = window.segment(image[None, :, ::-1])[:, :, ::-1]
    assert (mirrored == window.segment(image[None])).mean() > 0.999, "flip averaging is symmetric"
    whole = replace(window, window=(0, 0))
    whole.load()
    np.testing.assert_array_equal(whole.segment(image[None]), window.segment(image[None]))
    small = ClassSegmenter(finetuned, (32, 64), flip=False)
    small.load()
    assert small.segment(image[None]).shape == (1, 64, 128)


@pytest.mark.slow
def test_a_video_and_label_maps(tmp_path: Path, finetuned: Path) -> None:
    config = SegmentConfig(str(finetuned), STREET, tmp_path / "a" / "out.mp4", engine="local")
    result = segment(config)
    assert result["frames"] == 6 and result["rejected"] == 0
    video = cv2.VideoCapture(str(config.out))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == 6
    assert {p.name for p in config.out.parent.iterdir()} == {"out.mp4", "out-legend.png"}
    folder = segment(replace(config, out=tmp_path / "seg-1.5"))
    assert len(list((tmp_path / "seg-1.5").glob("street-*.mp4"))) == 2 and folder["frames"] == 6


def test_label_maps_hold_ids_and_show_colours(tmp_path: Path, finetuned: Path) -> None:
    config = SegmentConfig(str(finetuned), STREET, tmp_path / "ids", labels=True, engine="local")
    assert segment(config)["frames"] == 6
    source, network = open_frames(STREET), cpcdr.load(finetuned)
    for ref in source.refs():
        expected = network.segment(source.read(ref).image)
        path = tmp_path / "ids" / f"{ref.frame_id}.png"
        np.testing.assert_array_equal(read_label_map(str(path)), expected)
        with Image.open(path) as picture:
            assert picture.mode == "P"
            seen = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(seen, PROTOCOL.colours[expected])


@pytest.mark.slow
def test_actors_on_ray_write_what_this_process_writes(
    tmp_path: Path, finetuned: Path, ray_local: object
) -> None:
    street = STREET.replace("frames=3", "frames=9")  # three blocks for two actors
    for labels, out in ((False, "out.mp4"), (True, "ids")):
        files = []
        for engine, workers in (("local", 0), ("ray", 2)):
            root = tmp_path / engine
            config = SegmentConfig(str(finetuned), street, root / out, labels, engine=engine)
            assert segment(replace(config, workers=workers))["frames"] == 18
            files.append(
                {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
            )
        assert files[0] == files[1] and len(files[0]) >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": -1}, "--workers -1"),
        ({"out": Path("a.avi")}, "--out a.avi: .avi files are not written; give NAME.mp4"),
        ({"out": Path("a.PNG")}, "--out a.PNG: .png files are not written"),
        ({"out": Path("a.mp4"), "labels": True}, "--out a.mp4: give a folder for the label maps"),
        ({"out": Path("a"), "labels": True, "legend": True}, "--legend is drawn into videos"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        SegmentConfig(**arguments)


def test_an_output_that_is_something_else_is_left_alone(tmp_path: Path, finetuned: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("file", "file/below", "folder.mp4"):
        config = SegmentConfig(str(finetuned), STREET, tmp_path / name, engine="local")
        with pytest.raises(InputError, match=f"--out .*{name}: "):
            segment(config)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_probe_is_a_network_with_named_classes(tmp_path: Path, pretrained: Path) -> None:
    frames = [STREET.replace("seed=3", f"seed={seed}") for seed in (3, 4)]
    found = probe(ProbeConfig(pretrained, *frames, out=tmp_path))
    assert found["checkpoint"] == str(tmp_path / "probe")
    assert {p.name for p in tmp_path.iterdir()} >= {"probe", "probes.json"}
    assert {p.name for p in (tmp_path / "probe").iterdir()} == {"config.yaml", "model.safetensors"}
    # The checkpoint alone scores what the report says.
    module, source = load_finetuned(tmp_path / "probe")[0], open_frames(frames[1])
    counts = np.zeros((7, 7), np.int64)
    for frame in map(source.read, source.refs()):
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255
        predicted = module.logits(pixels)[0].argmax(0).numpy()
        counts += confusion(predicted, grid_labels(frame.labels, predicted.shape), 7, 7)
    assert scores(counts).miou == pytest.approx(found["linear_ridge"], abs=2e-3)
    image = np.random.default_rng(0).integers(0, 255, (150, 260, 3)).astype(np.uint8)
    network, recorded = cpcdr.load(tmp_path / "probe"), cpcdr.load(f"runs:/{found['run_id']}")
    assert network.names == recorded.names == PROTOCOL.classes
    np.testing.assert_array_equal(network.segment(image), recorded.segment(image))
    labels = SegmentConfig(found["checkpoint"], STREET, tmp_path / "ids", True, engine="local")
    assert segment(labels)["classes"] == list(PROTOCOL.classes)
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    assert export(ExportConfig(found["checkpoint"], tmp_path / "m.onnx"))["difference"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
def test_onnx_agrees(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    folder = request.getfixturevalue(kind)
    result = export(ExportConfig(str(folder), tmp_path / "model.onnx"))
    assert result["difference"] < 1e-3 and result["size"] == [64, 128]
    about = onnxruntime.InferenceSession(result["onnx"]).get_modelmeta().custom_metadata_map
    names = cpcdr.load(folder).names
    assert about == {"height": "64", "width": "128", "names": "\n".join(names)}
    assert [p.name for p in tmp_path.iterdir() if "onnx" in p.name] == ["model.onnx"]
    session = onnxruntime.InferenceSession(result["onnx"])
    assert session.get_inputs()[0].shape == ["images", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["images", len(names), "height", "width"]
    half = export(ExportConfig(str(folder), tmp_path / "half.onnx", half=True))
    assert 0 < half["difference"] < 2e-2
    weights = {t.data_type for t in onnx.load(half["onnx"]).graph.initializer if len(t.dims) == 4}
    assert weights == {onnx.TensorProto.FLOAT16}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["finetuned", "pretrained"])
def test_the_registry_brings_it_back(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    import mlflow

    folder = request.getfixturevalue(kind)
    config = ExportConfig(str(folder), tmp_path / "m.onnx", clusters=9, register="streets")
    result = export(config)
    assert result["uri"] == "models:/streets@champion" and result["version"] == "1"
    images = np.random.default_rng(0).integers(0, 255, (2, 70, 100, 3)).astype(np.uint8)
    expected = [load_network_for_use(folder, clusters=9).segment(image) for image in images]
    again = load_network_for_use("models:/streets@champion", clusters=9)
    np.testing.assert_array_equal(again.segment(images[0]), expected[0])
    model = mlflow.pyfunc.load_model("models:/streets@champion")
    np.testing.assert_array_equal(model.predict(images), expected)
    schemas = model.metadata.signature.inputs, model.metadata.signature.outputs
    shapes = [(schema.inputs[0].type, schema.inputs[0].shape) for schema in schemas]
    assert shapes == [(np.uint8, (-1, -1, -1, 3)), (np.uint8, (-1, -1, -1))]
    assert model.metadata.metadata["classes"] == list(again.names)
    with pytest.raises(mlflow.MlflowException, match="does not match expected dtype uint8"):
        model.predict(images / 255)
    files = {p for p in tmp_path.rglob("models/*/artifacts/**/*") if p.is_file()}
    assert {"MLmodel", "config.yaml", "model.safetensors"} <= {p.name for p in files}
    kinds = {"", ".yaml", ".txt", ".safetensors", ".json"}  # JSON: the example
    assert {p.suffix for p in files} == kinds, "no pickle, no code"


def test_export_without_onnx_says_what_to_install(
    tmp_path: Path, finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"needs onnx, onnxruntime and onnxscript: .*-m pip install '"
    ):
        export(ExportConfig(str(finetuned), tmp_path / "m.onnx"))


def test_names_that_no_registry_takes_are_refused_before_anything_is_written() -> None:
    for name in ("a/b:c", "a@b", "a?b", " ", "."):
        with pytest.raises(InputError, match=f"--register '{re.escape(name)}'"):
            ExportConfig(register=name)
    for alias in ("bad alias!", "latest", "V2", "", "a" * 300):
        with pytest.raises(InputError, match=f"--alias '{re.escape(alias)}'"):
            ExportConfig(register="streets", alias=alias)
    ExportConfig(register="streets of 2026_v1.0", alias="champion-1")


@pytest.mark.slow
def test_what_mlflow_refuses_is_a_sentence(
    finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = cpcdr.load(finetuned)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"MLflow at http://127\.0\.0\.1:9 did not register"):
        register(ExportConfig(register="streets"), finetuned, network)


@pytest.mark.slow
def test_bad_models_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.yaml"):
        cpcdr.load(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        cpcdr.load("runs:/0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: depth\nconfig: {}\n", "kind 'depth', not pretrain, name, finetune or probe"),
        ("kind: finetune\n", "config.yaml: has no section 'config'"),
        ("kind: finetune\nconfig: {protocol: synthetic}\n", "config.yaml: has no size"),
        ("kind: finetune\nconfig: {protocol: synthetic, size: 64}\n", "config.yaml: has no size"),
        ("kind: finetune\nconfig: {size: [64, 128]}\n", "config.yaml: its protocol 'None'"),
        ("kind: finetune\nconfig: {size: [64, 128], protocol: [1]}\n", "config.yaml: its protocol"),
        ("kind: finetune\nconfig: {size: [64, 128], protocol: synthetic}\n", "do not fit"),
        ("kind: pretrain\nconfig: {}\n", "config.yaml: has no size"),
        ("kind: pretrain\nconfig: {dataset: {size: [64, 128]}}\n", "config.yaml: has no model"),
    ],
)
def test_a_damaged_configuration_is_a_sentence_that_names_it(
    tmp_path: Path, finetuned: Path, text: str, words: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(finetuned, folder)
    (folder / "config.yaml").write_text(text)
    for use in (cpcdr.load, lambda f: export(ExportConfig(str(f), tmp_path / "m.onnx"))):
        with pytest.raises(InputError, match=f"{re.escape(str(folder))}.*{re.escape(words)}"):
            use(folder)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("clusters", [0, 41, 300])
def test_no_more_clusters_than_prototypes_and_8_bit_ids(pretrained: Path, clusters: int) -> None:
    with pytest.raises(InputError, match=f"--clusters {clusters}: .* 40 prototypes.*1 to 40"):
        load_network_for_use(pretrained, clusters)


def test_ids_do_not_wrap(tmp_path: Path) -> None:
    model = replace(MODEL, prototypes=300)
    folder = write_pretrained(tmp_path, model)
    with pytest.raises(InputError, match=r"--clusters 256: .* 300 prototypes.*1 to 255"):
        load_network_for_use(folder, 256)
    network = load_network_for_use(folder, 255)
    image = np.random.default_rng(0).integers(0, 255, (64, 128, 3)).astype(np.uint8)
    np.testing.assert_array_equal(network.segment(image), network.segmenter.segment(image[None])[0])
    few = load_network_for_use(folder, 9)
    assert len(np.unique(few.segment(image))) > 1
    np.testing.assert_array_equal(few.segment(image), few.segmenter.segment(image[None])[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 128), np.uint8),
        np.zeros((64, 128, 4), np.uint8),
        np.zeros((64, 128, 3), np.float32),
        np.zeros((0, 128, 3), np.uint8),
    ],
    ids=["grey", "RGBA", "float", "empty"],
)
def test_what_is_no_image_is_said(finetuned: Path, image: np.ndarray) -> None:
    network = cpcdr.load(finetuned)
    for use in (network.segment, network.overlay):
        with pytest.raises(InputError, match=r"uint8 \[H, W, 3\] RGB, not "):
            use(image)


class Seen:
    """A network that notes the images it is given."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []

    def load(self) -> None:
        pass

    def scores(self, images: np.ndarray) -> torch.Tensor:
        self.images.extend(images)
        return torch.zeros(len(images), 2, *images.shape[1:3])


@dataclass(frozen=True)
class OneFrame:
    """A source of one frame."""

    frame: Frame
    spec: str = "one:"
    protocol: str = ""
    intrinsics_note: str = ""

    def refs(self) -> list[FrameRef]:
        return [self.frame.ref]

    def read(self, ref: FrameRef) -> Frame:
        return self.frame


@pytest.mark.parametrize(
    "shape", [(480, 640), (150, 400), (64, 128), (100, 60), (48, 64), (100, 205)]
)
def test_images_are_seen_at_the_scale_of_the_training(
    finetuned: Path, shape: tuple[int, int]
) -> None:
    """What `prepare` crops for the training is, pixel by pixel, the middle of what is segmented, by
    `segment`, by the registered model, and in evaluation."""
    rows, columns = np.indices(shape)
    waves = np.sin(rows * 20 / shape[0]) * np.cos(columns * 30 / shape[1])
    image = np.repeat((127 + 100 * waves)[..., None], 3, axis=2).astype(np.uint8)
    seen = Seen()
    for network in (cpcdr.load(finetuned), ImagesToClasses(cpcdr.load(finetuned)).network):
        replace(network, segmenter=seen).segment(image)
    ref = FrameRef("s", 0)
    frame = Frame(ref, b"", image, np.ones(4, np.float32), "")
    trained = fit(frame, (64, 128)).image.astype(int)
    evaluated = fit(frame, whole_size(OneFrame(frame), (64, 128))).image
    (prepared,) = ReadFrames(OneFrame(frame), (64, 128))([Draft(ref)])
    np.testing.assert_array_equal(prepared.frame.image, fit(frame, (64, 128)).image)
    assert len(seen.images) == 2 and evaluated.shape == seen.images[0].shape
    for whole in (*seen.images, evaluated):
        top, left = ((have - want) // 2 for have, want in zip(whole.shape, (64, 128), strict=False))
        middle = whole[top : top + 64, left : left + 128].astype(int)
        assert middle.shape == trained.shape
        assert np.abs(middle - trained).mean() < 2, "the training's frames went through JPEG"


def test_videos_play_as_fast_as_they_were_recorded() -> None:
    refs = [FrameRef(name, index) for name in ("slow", "fast", "unknown") for index in range(3)]
    rates = {"slow": 10.0, "fast": 30.0}
    for fps, expected in ((None, [10, 30, 15]), (5.0, [5, 5, 5])):
        parts = cut(SegmentConfig(out=Path("out"), fps=fps), refs, rates)
        assert [part.fps for part in parts] == expected
        assert [part.video for part in parts] == [
            Path(f"out/{n}.mp4") for n in dict.fromkeys(r.sequence for r in refs)
        ]
    (one,) = cut(SegmentConfig(out=Path("out.mp4")), refs, rates)
    assert one.fps == 10 and one.video == Path("out.mp4") and one.refs == refs
