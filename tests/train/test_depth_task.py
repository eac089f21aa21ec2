"""Triplets, batches and learning, on a street of planes."""

import math
import pickle
import time
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from epochs import epoch_batches
from plane_world import PlaneWorld

from cpcdr.depth.alignment import align
from cpcdr.depth.augment import apply_colour, colour_matrices, flip_horizontally
from cpcdr.depth.config import SMALL as SMALL_START
from cpcdr.depth.model import DepthModel, _drift
from cpcdr.depth.motion_on_ray import measure_on_ray
from cpcdr.depth.networks import empty_street
from cpcdr.depth.street import PACKAGED, load_street_network
from cpcdr.depth.triplets import find_triplets, measure_motion, runs_of_frames
from cpcdr.frames import open_frames
from cpcdr.frames.frame import FrameRef
from cpcdr.frames.reader import FrameReader
from cpcdr.geometry import pose_matrix
from cpcdr.runtime.errors import InputError
from cpcdr.train.depth_task import TINY, DepthConfig, DepthTask, with_size

CPU = torch.device("cpu")
SMALL = replace(TINY, channels=8, height=64, width=128, batch_size=2)
SIZE = (SMALL.height, SMALL.width)


@pytest.fixture(scope="module")
def task():
    return DepthTask(SMALL, PlaneWorld(sequences=2, length=7, broken=-1))


def batches(task, epoch=0, first_step=0, rank=0, world_size=1):
    return epoch_batches(task, epoch, first_step, rank, world_size)


def test_triplets_stay_in_their_sequence(task):
    assert len(task.scan.triplets) == 2 * (7 - 2)
    for triplet in task.scan.triplets:
        indices = [ref.frame_index for ref in triplet]
        assert indices == [indices[0], indices[0] + 1, indices[0] + 2]
        assert len({ref.sequence for ref in triplet}) == 1
    assert task.steps_per_epoch(1) == 5 and task.steps_per_epoch(2) == 2


def test_broken_frames_cost_only_their_triplets():
    scan = DepthTask(SMALL, PlaneWorld(length=9, broken=4)).scan
    assert [t[1].frame_index for t in scan.triplets] == [1, 2, 6, 7]
    assert scan.rejected == (("s0/00000004", "s0/00000004 is broken: replace it."),)
    assert "1 unreadable" in scan.summary()


@dataclass(frozen=True)
class Gaps(PlaneWorld):
    """Frames 0, 1, 2 and every other one after."""

    def refs(self):
        return [FrameRef("s0", i) for i in (0, 1, 2, 4, 6, 8)] + [FrameRef("s1", 0)]


def test_only_consecutive_indices_make_triplets():
    scan = DepthTask(SMALL, Gaps()).scan
    assert [t[1].frame_index for t in scan.triplets] == [1]
    assert scan.short == ("s1",)


def test_frames_of_a_triplet_lie_spacing_apart():
    wide = DepthTask(replace(SMALL, spacing=(2,)), PlaneWorld(length=7)).scan
    assert [[ref.frame_index for ref in t] for t in wide.triplets] == [
        [0, 2, 4],
        [1, 3, 5],
        [2, 4, 6],
    ]
    both = DepthTask(replace(SMALL, spacing=(1, 2)), PlaneWorld(length=5)).scan
    assert [[ref.frame_index for ref in t] for t in both.triplets] == [
        [0, 1, 2],
        [1, 2, 3],
        [0, 2, 4],
        [2, 3, 4],
    ]
    # Of frames that were thinned out, those count that are left.
    thinned = DepthTask(replace(SMALL, spacing=(2,)), Thinned(length=9)).scan
    assert [t[1].frame_index for t in thinned.triplets] == [2, 4, 6]


@dataclass(frozen=True)
class Thinned(PlaneWorld):
    """Every other frame."""

    def refs(self):
        return super().refs()[::2]


@dataclass(frozen=True)
class Parked(PlaneWorld):
    """The camera stands still from frame ``since`` on."""

    since: int = 4

    def pose(self, ref):
        return super().pose(FrameRef(ref.sequence, min(ref.frame_index, self.since)))


def test_triplets_without_motion_are_skipped_and_counted():
    scan = DepthTask(SMALL, Parked(length=8)).scan
    assert [t[1].frame_index for t in scan.triplets] == [1, 2, 3, 4] and scan.static == 2


def test_one_step_with_motion_is_enough_for_a_wide_triplet():
    scan = DepthTask(replace(SMALL, spacing=(2,)), Parked(length=10)).scan
    assert [t[1].frame_index for t in scan.triplets] == [2, 3, 4, 5] and scan.static == 2


def test_pieces_of_a_long_sequence_see_what_the_whole_sees():
    source = PlaneWorld(length=8, broken=5)
    reader = FrameReader(source, SIZE, 0)
    runs = runs_of_frames(source, most=3)
    assert [[ref.frame_index for ref in run] for run in runs] == [
        [0, 1, 2],
        [2, 3, 4, 5],
        [5, 6, 7],
    ]
    pieces = [motion for run in runs for motion in measure_motion(reader, run)]
    scan = find_triplets(source, pieces, 0.001)
    assert scan == DepthTask(SMALL, source).scan
    assert [t[1].frame_index for t in scan.triplets] == [1, 2, 3]


@pytest.mark.slow
def test_ray_data_finds_the_same_triplets(ray_local):
    source = open_frames("synthetic:streets=3,frames=4,height=64,width=96")
    motions = list(measure_on_ray(source, SIZE))
    assert DepthTask(SMALL, source, motions).scan == DepthTask(SMALL, source).scan


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PlaneWorld(length=2), r"three consecutive.*--options\.stride 1, --options\.limit 0"),
        (Parked(length=5, since=0), r"show no motion.*--depth\.min-motion"),
        (PlaneWorld(length=3, broken=1), "is broken"),
    ],
)
def test_nothing_left_is_said_in_a_sentence(source, words):
    with pytest.raises(InputError, match=words):
        DepthTask(SMALL, source)


def test_short_recordings_are_told_of_the_spacing():
    with pytest.raises(
        InputError, match=r"three frames 2 apart: .*--depth.spacing.*--options.stride"
    ):
        DepthTask(replace(SMALL, spacing=(2,)), PlaneWorld(length=4))


@pytest.mark.parametrize(
    "change",
    [
        {"height": 100},
        {"width": 32},
        {"batch_size": 0},
        {"spacing": (2, 0)},
        {"start": "nowhere"},
        {"start": "scratch:file"},
        {"prior": -1.0},
        {"alignment_steps": -1},
    ],
)
def test_bad_configuration(change):
    with pytest.raises(InputError):
        replace(SMALL, **change)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_batches_are_deterministic_and_resume(task):
    whole = batches(task, epoch=3)
    again = batches(pickle.loads(pickle.dumps(task)), epoch=3)
    rest = batches(task, epoch=3, first_step=2)
    assert len(whole) == 5 and all(same(*pair) for pair in zip(whole, again, strict=True))
    assert all(same(*pair) for pair in zip(whole[2:], rest, strict=True))
    assert not same(whole[0], batches(task, epoch=4)[0])


def test_batch_contents(task):
    batch = batches(task)[0]
    assert batch["images"].shape == batch["jittered"].shape == (2, 3, 3, 64, 128)
    assert batch["images"].dtype == batch["intrinsics"].dtype == torch.float32
    assert float(batch["jittered"].min()) >= 0 and float(batch["jittered"].max()) <= 1
    for flipped, camera in zip(batch["flipped"], batch["intrinsics"], strict=True):
        expected = torch.from_numpy(task.source.intrinsics)
        if flipped:
            expected = expected * torch.tensor([1, 1, -1, 1]) + torch.tensor([0, 0, 127.0, 0])
        torch.testing.assert_close(camera, expected)


def test_ranks_share_an_epoch_without_overlap(task):
    order = task._order(epoch=1, world_size=2)
    assert order.shape == (2, 2, 2) and len(set(order.flat)) == 8
    unflipped = [b["images"][~b["flipped"]] for r in (0, 1) for b in batches(task, 1, 0, r, 2)]
    frames = torch.cat(unflipped)[:, 1].flatten(1)
    assert len(frames.unique(dim=0)) == len(frames)


def test_a_rank_reads_the_same_share_in_every_epoch(task):
    shares = [{*task._order(epoch, world_size=2)[rank].flat} for rank in (0, 1) for epoch in (3, 8)]
    everything = set(range(len(task.scan.triplets)))
    halves = shares[0] | shares[1], shares[2] | shares[3]
    assert not halves[0] & halves[1] and len(halves[0] | halves[1]) >= len(everything) - 1


def test_fewer_triplets_than_a_batch_repeat():
    task = DepthTask(replace(SMALL, batch_size=8), PlaneWorld(length=5))
    assert task.steps_per_epoch(1) == 1 and len(batches(task)[0]["images"]) == 8


def test_stopping_early_leaves_no_thread_behind(task):
    iterator = task.batches(0, 0, 1, CPU)
    assert len(list(islice(iterator, 1))) == 1
    started = time.monotonic()
    iterator.close()
    assert time.monotonic() - started < 5


def test_reader_keeps_within_its_bound():
    world = PlaneWorld(length=6)
    reader = FrameReader(world, (64, 128), room=2)
    first = world.refs()[0]
    image, camera = reader.read(first)
    assert reader.read(first)[0] is image
    np.testing.assert_array_equal(camera, world.intrinsics)
    for ref in world.refs()[1:]:
        reader.read(ref)
    assert reader.read(first)[0] is not image and len(reader._cache) == 2


def test_colour_jitter():
    rng = np.random.default_rng(0)
    images = torch.rand(3, 3, 3, 4, 5)
    assert torch.equal(apply_colour(colour_matrices(rng, 3, 0.0), images), images)
    matrices = colour_matrices(rng, 200, 1.0)
    grey = torch.full((200, 1, 3, 1, 1), 0.5)
    turned = apply_colour(matrices, grey).flatten(1)
    # Grey stays grey under hue and saturation, and brightness and contrast move it ≤ 34 %.
    assert float((turned.amax(1) - turned.amin(1)).max()) < 5e-3
    assert float(turned.min()) > 0.3 and float(turned.max()) < 0.7


def test_flip_mirrors_the_principal_point():
    images, camera = torch.rand(2, 3, 3, 4, 6), torch.tensor([[5.0, 5, 1, 2]] * 2)
    mirrored, flipped_camera = flip_horizontally(images, camera, torch.tensor([True, False]))
    assert torch.equal(mirrored[0], images[0].flip(-1)) and torch.equal(mirrored[1], images[1])
    assert flipped_camera[:, 2].tolist() == [4, 1]


@pytest.mark.parametrize("intrinsics", ["known", "learn"])
def test_gradients_reach_everything(task, intrinsics):
    model = DepthTask.build(_with(task, replace(SMALL, intrinsics=intrinsics)))
    model(batches(task)[0])["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def _with(task, config):
    other = pickle.loads(pickle.dumps(task))
    other.settings = config
    return other


def test_learned_intrinsics_form_their_own_group(task):
    learning = _with(task, replace(SMALL, intrinsics="learn"))
    model = learning.build()
    groups = learning.parameter_groups(model)
    assert [len(g["params"]) for g in groups][1] == 2 and groups[1]["lr_scale"] == 3
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    with torch.no_grad():
        model.intrinsics.principal_point.copy_(torch.tensor([0.1, 0.2]))
    batch = batches(task)[0] | {"flipped": torch.tensor([False, True])}
    camera = model.camera(batch)
    torch.testing.assert_close(camera[:, 2].detach(), torch.tensor([63.5 + 12.8, 63.5 - 12.8]))
    torch.testing.assert_close(camera[0, 0].item(), 128 * 0.8660254, atol=1e-3, rtol=0)


def test_a_learned_principal_point_is_held_near_the_centre(task):
    model = _with(task, replace(SMALL, intrinsics="learn")).build().eval()
    nothing_to_see = {**batches(task)[0], "images": torch.full((2, 3, 3, 64, 128), 0.5)}
    nothing_to_see["jittered"] = nothing_to_see["images"]
    with torch.no_grad():
        near = model(nothing_to_see)["loss"]
        model.intrinsics.principal_point.copy_(torch.tensor([0.4, 0.2]))
        far = model(nothing_to_see)["loss"]
    assert float(far - near) == pytest.approx(0.5 * (0.4**2 + 0.2**2), abs=1e-4)


@pytest.mark.slow
def test_loss_falls_on_a_small_world(task):
    torch.manual_seed(0)
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    batch = batches(_with(task, replace(SMALL, jitter=0.0)))[0]
    losses = []
    for _ in range(25):
        metrics = model(batch)
        optimizer.zero_grad()
        metrics["loss"].backward()
        optimizer.step()
        losses.append(float(metrics["loss"].detach()))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert all(bool(m.isfinite()) and m.ndim == 0 for m in metrics.values())


def test_example(task):
    model = task.build().train()
    example = task.example(model, batches(task)[0])
    assert model.training
    assert example["image"].shape == example["synthesised"].shape == (2, 3, 64, 128)
    assert example["disparity"].shape == example["automask"].shape == (2, 64, 128)


def test_config_rebuilds_the_network(task):
    values = task.config()
    assert values.pop("data") == "planes:" and values.pop("seed") == task.seed
    assert DepthConfig(**values) == task.settings


def test_a_learned_focal_length_leaves_first_order_motion_alone():
    # Pixels near the centre move by f · angle and f · step / z: neither may depend on f.
    model = DepthModel(replace(SMALL, intrinsics="learn")).eval()
    frames = torch.rand(2, 2, 3, SMALL.height, SMALL.width)
    moved = []
    with torch.no_grad():
        for focal in (0.8, 1.6):
            model.intrinsics.log_focal.fill_(math.log(focal))
            rotation, translation = model.motion(frames)
            across = torch.tensor([focal, focal, 1.0])
            moved.append(torch.cat([rotation * across, translation * across]))
    torch.testing.assert_close(moved[0], moved[1])
    assert moved[0].abs().min() > 0


def test_a_drive_is_the_networks_motions_aligned(task):
    torch.manual_seed(0)
    frames = [task.source.read(ref) for ref in task.source.refs()[:6]]
    images = torch.from_numpy(np.stack([f.image for f in frames])).permute(0, 3, 1, 2) / 255
    camera = torch.from_numpy(np.stack([f.intrinsics for f in frames]))
    model = task.build().eval()
    with torch.no_grad():
        first, second = images[:-1], images[1:]
        predicted = pose_matrix(*model.motion(torch.stack([first, second], dim=1)))[:, 0]
        disparity = model.depth(first)[0][:, 0]
        expected = align(first, second[None], disparity, predicted[None], camera[:-1])[0]
        found = model.sequence_motions(images, camera)
        model.config = replace(SMALL, alignment_steps=0)
        plain = model.sequence_motions(images, camera)
    torch.testing.assert_close(plain, predicted)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, predicted, atol=1e-4)


def test_the_unit_of_depth_is_held_at_an_empty_streets():
    street = empty_street(64)[:, None].expand(2, 1, 64, 32)
    assert float(_drift(street)) == pytest.approx(0, abs=1e-10)
    assert float(_drift(street / 2)) == pytest.approx(math.log(2) ** 2, rel=1e-4)


def test_motions_are_aligned_only_where_asked(task):
    batch = batches(task)[0]
    for steps, gap in ((3, True), (0, False)):
        model = _with(task, replace(SMALL, alignment_steps=steps)).build()
        assert (float(model.reconstruct(batch).gap) > 0) == gap
        assert float(model.reconstruct(batch, aligned=False).gap) == 0
        assert ("motion_gap" in model(batch)) == gap


STREET = replace(SMALL_START, channels=8, height=64, width=128, batch_size=4, spacing=(1,))


@pytest.fixture(scope="module")
def started():
    """A task that starts from the network in the package, with held-out triplets."""
    return DepthTask(
        STREET, open_frames("synthetic:seed=8,streets=1,frames=46,height=64,width=128")
    )


def test_training_starts_with_the_depth_of_the_package(started):
    model = started.build().train()
    street = load_street_network(PACKAGED)
    batch = batches(started)[0]
    focal = batch["intrinsics"][:, 0]
    with torch.no_grad():
        expected = street(batch["jittered"][:, 1]).exp() / focal[:, None, None, None]
        (disparity,) = model.reconstruct(batch).disparities
        torch.testing.assert_close(disparity, expected)
        metrics = model(batch | {"jittered": batch["images"]})
    assert float(metrics["prior"]) == pytest.approx(0, abs=1e-5)
    assert 0 < float(metrics["ambiguity"]) < 1
    assert "prior_weight" in model.state_dict()
    assert not any("prior." in name for name in model.state_dict()), "the prior is not stored"


def test_the_package_is_kept_apart_from_what_is_trained(started):
    torch.manual_seed(0)
    model = started.build().train()
    before = [p.clone() for p in model.prior[0].parameters()]
    statistics = [b.clone() for b in model.depth.buffers()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(batches(started)[0])["loss"].backward()
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(before, model.prior[0].parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(statistics, model.depth.buffers(), strict=True))
    changed = zip(model.depth.parameters(), model.prior[0].parameters(), strict=True)
    assert any(not torch.equal(*pair) for pair in changed)


def test_held_out_frames_compare_the_network_with_its_start(started):
    assert len(started.held_out) == 4 and len(started.trained) < len(started.scan.triplets) - 4
    torch.manual_seed(0)
    model = started.build().train()
    metrics = started.validate(model)
    assert metrics["held_out"] == pytest.approx(1) and metrics["restarted"] == 0
    assert metrics["held_out_error"] == pytest.approx(metrics["held_out_prior"])
    assert 0 < metrics["held_out_error"] <= metrics["held_out_identity"]
    assert model.training and not model.depth.training
    with torch.no_grad():  # a little nearer on one side: wrong, and no collapse
        model.depth.head.bias += 0.7
    assert started.validate(model)["held_out"] != pytest.approx(1, abs=1e-4)


def test_a_collapse_restarts_with_a_stronger_prior(started):
    model = started.build().train()
    with torch.no_grad():
        model.depth.head.weight.mul_(-3)  # far below, near above
        model.depth.head.bias.mul_(-3)
    metrics = started.validate(model)
    assert metrics["restarted"] == 1 and metrics["held_out"] == 1
    for name, value in load_street_network(PACKAGED).state_dict().items():
        assert torch.equal(model.depth.state_dict()[name], value)
    assert float(model.state_dict()["prior_weight"]) == pytest.approx(4 * STREET.prior)
    assert started.validate(model)["restarted"] == 0


def test_a_scene_that_looks_collapsed_to_the_prior_too_is_no_collapse(started, monkeypatch):
    monkeypatch.setattr("cpcdr.train.depth_task.collapse", lambda images, maps: "an odd scene")
    model = started.build().train()
    with torch.no_grad():
        model.depth.head.bias += 0.7
    assert started.validate(model)["restarted"] == 0
    assert float(model.state_dict()["prior_weight"]) == pytest.approx(STREET.prior)


def test_the_size_follows_the_video_where_none_is_given():
    wide = with_size(replace(STREET, height=0, width=0), PlaneWorld(height=96, width=192))
    assert (wide.height, wide.width) == (160, 352) and wide.height % 32 == wide.width % 32 == 0
    assert with_size(STREET, PlaneWorld()) == STREET
    given = with_size(replace(STREET, height=96, width=0), PlaneWorld(height=96, width=192))
    assert (given.height, given.width) == (96, 192)


@dataclass(frozen=True)
class Bonnet(PlaneWorld):
    """A striped bar along the lower border that is part of the car."""

    def read(self, ref):
        frame = super().read(ref)
        image = frame.image.copy()
        image[-12:] = 255 * (np.arange(self.width) // 8 % 2)[:, None]
        return replace(frame, image=image)


def test_still_pixels_are_found_and_mirrored_with_their_frames():
    task = DepthTask(STREET, Bonnet(length=50))
    (still,) = task.still.values()
    assert still[-8:].mean() > 0.8 and still[:48].mean() < 0.05
    task.still["s0"][:, : STREET.width // 2] = False
    for batch in batches(task):
        right = batch["still"][:, -8:, STREET.width // 2 :].float().mean((1, 2))
        assert torch.equal(right < 0.5, batch["flipped"])
    assert "still" not in batches(DepthTask(SMALL, Bonnet(length=20)))[0]
