"""The compositor against a slow reference, against ground truth, and in edge cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from copy_paste_scenes import PLAIN, SHARP, UNCHANGED, coordinates, plain, scene
from reference_paster import paste_one_by_one
from scipy.ndimage import minimum_filter

from cpcdr.copy_paste import shading
from cpcdr.copy_paste.config import ColourConfig, CopyPasteConfig, ViewConfig
from cpcdr.copy_paste.mosaic import Frames, Mosaic, compose, draw, render
from cpcdr.maps import disparity_of
from cpcdr.runtime.errors import InputError

CAMVID = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "camvid" / "clip"
CONFIG = CopyPasteConfig(colour=SHARP, view=ViewConfig(colour=SHARP))


def tensor_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render with the tensor code that serves devices without kernels of their own."""
    monkeypatch.setattr("cpcdr.copy_paste.mosaic._kernels", lambda device: shading)


def same(a: Mosaic, b: Mosaic) -> bool:
    maps = ("images", "regions", "appearances", "transforms", "image_of", "frame_of")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in maps)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fast", [True, False])
def test_agrees_with_pasting_one_by_one(
    seed: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        tensor_path(monkeypatch)
    frames = scene(size=(64, 112), seed=seed)
    colour, regions, appearances = paste_one_by_one(frames, CONFIG, (seed, 0, 5))
    mosaic = compose(frames, CONFIG, [(seed, 0, 5)])
    assert 0.1 < mosaic.pasted_fraction < 0.9
    equal = (mosaic.regions.numpy() == regions) & (mosaic.appearances.numpy() == appearances)
    assert equal.mean() >= 0.995
    label = regions * 100 + appearances
    flat = np.stack([_flat(part) for part in label]) & equal
    error = np.abs(mosaic.images.permute(0, 2, 3, 1).numpy() - colour).max(-1)
    assert flat.mean() > 0.5
    assert np.quantile(error[flat], 0.999) < 2 / 255


def _flat(label: np.ndarray) -> np.ndarray:
    """Pixels whose 5x5 neighbourhood has one label."""
    return minimum_filter(label, 5) == -minimum_filter(-label, 5)


def test_cpu_kernels_agree_with_tensor_code(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, keys = scene(items=2, frames=3, size=(97, 155)), [(0, 0, 1), (0, 0, 2)]
    fast = compose(frames, CopyPasteConfig(), keys)
    tensor_path(monkeypatch)
    slow = compose(frames, CopyPasteConfig(), keys)
    assert torch.equal(fast.regions, slow.regions)
    assert torch.equal(fast.appearances, slow.appearances)
    assert torch.allclose(fast.images, slow.images, atol=1e-4)


@pytest.mark.parametrize("blurred", [0.0, 0.5, 1.0])
def test_gpu_kernels_agree_with_tensor_code(
    blurred: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, or by Triton's interpreter: the same maps, and colours to the last bits."""
    gpu = pytest.importorskip("cpcdr.copy_paste.gpu", reason="no Triton for this machine")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames, keys = scene(frames=2, size=(33, 43)).to(device), [(0, 0, 1)]
    colour = ColourConfig(blur_probability=0.5, blur_sigma=(2.0, 8.0))
    config = CopyPasteConfig(view=ViewConfig(colour=colour))
    results = []
    for kernels in (shading, gpu):
        monkeypatch.setattr("cpcdr.copy_paste.mosaic._kernels", lambda device, k=kernels: k)
        results.append(compose(frames, config, keys))
    slow, fast = results
    assert 0.1 < fast.pasted_fraction < 0.9
    assert torch.equal(fast.regions, slow.regions)
    assert torch.equal(fast.appearances, slow.appearances)
    torch.testing.assert_close(fast.images, slow.images, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("fast", [True, False])
def test_maps_as_a_dataset_holds_them(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disparity and regions of 16 bits give the same mixed images, to the last bit."""
    if not fast:
        tensor_path(monkeypatch)
    frames = scene(items=2, frames=3, size=(97, 155))
    levels = (frames.disparity * 65535).round().numpy().astype(np.uint16)
    stored = torch.from_numpy(disparity_of(levels))
    small = Frames(frames.images, torch.from_numpy(levels), frames.regions.to(torch.uint16))
    keys = [(0, 0, 1), (0, 0, 2)]
    expected = compose(Frames(frames.images, stored, frames.regions), CopyPasteConfig(), keys)
    assert same(compose(small, CopyPasteConfig(), keys), expected)


def test_padding_adds_regions_that_are_nowhere() -> None:
    frames = scene(items=2, frames=3, size=(97, 155))
    plan = draw(frames, CopyPasteConfig(), [(0, 0, 1), (0, 0, 2)])
    padded, regions = plan.padded(64), len(plan.frame_of)
    assert len(padded.frame_of) == len(padded.transforms) == len(padded.image_of)
    assert len(padded.frame_of) % 64 == 0 and 0 <= len(padded.frame_of) - regions < 64
    assert torch.all(padded.image_of[regions:] == -1)
    for name in ("transforms", "image_of", "frame_of"):
        assert torch.equal(getattr(padded, name)[:regions], getattr(plan, name))
    assert len(padded.padded(64).frame_of) == len(padded.frame_of)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    frames, keys = scene(items=2, frames=3), [(0, 0, 1), (0, 0, 2)]
    here, there = (compose(frames.to(d), CopyPasteConfig(), keys) for d in ("cpu", "cuda"))
    assert (here.regions == there.regions.cpu()).float().mean() > 0.9999
    assert (here.appearances == there.appearances.cpu()).float().mean() > 0.9999
    assert (here.images - there.images.cpu()).abs().median() < 1e-4
    assert torch.equal(here.transforms, there.transforms.cpu())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rendering_never_makes_the_host_wait() -> None:
    frames, keys = scene(items=2, frames=3), [(0, 0, 1), (0, 0, 2)]
    plan = draw(frames, CopyPasteConfig(), keys)
    before = render(frames.to("cuda"), plan)
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = render(frames.to("cuda"), plan)  # raises on a synchronisation
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(again.regions, before.regions)


def test_transforms_lead_back_to_the_source_pixel() -> None:
    frames = coordinates(scene(items=2, frames=2))
    mosaic = compose(frames, plain(), [(3, 1, 0), (3, 1, 1)])
    n, y, x = torch.meshgrid(*(torch.arange(k) for k in mosaic.regions.shape), indexing="ij")
    look = mosaic.appearances.long()
    matrix = mosaic.transforms[mosaic.regions, look].double()
    assert torch.equal(mosaic.image_of[mosaic.regions, look], n)
    u = (x - matrix[..., 0, 2]) / matrix[..., 0, 0]
    v = (y - matrix[..., 1, 2]) / matrix[..., 1, 1]
    assert torch.all(matrix[..., 0, 1] == 0) and torch.all(matrix[..., 1, 0] == 0)
    frame = mosaic.frame_of[mosaic.regions]
    source = frames.regions.flatten(0, 1)
    height, width = source.shape[1:]
    row, column = v.round().long().clamp(0, height - 1), u.round().long().clamp(0, width - 1)
    counts = source.amax((1, 2)) + 1
    ids = source + (counts.cumsum(0) - counts)[:, None, None]
    assert (ids[frame, row, column] == mosaic.regions).double().mean() > 0.9999
    # Colours encode coordinates: visible pixels must come from where the transform points.
    label = (mosaic.regions * 100 + look).numpy()
    flat = torch.from_numpy(np.stack([_flat(part) for part in label]))
    coarse = matrix[..., 1, 1] < 0.7  # mip texels are means over up to 4 × 4 pixels
    for channel, truth in ((0, u), (1, v)):
        error = (mosaic.images[:, channel] * 255 - truth).abs()
        interior = flat & (truth > 3) & (truth < (width, height)[channel] - 4)
        assert error[interior & ~coarse].quantile(0.999) < 0.6
        assert error[interior & coarse].quantile(0.99) < 1.5


def test_the_nearer_region_wins() -> None:
    images = torch.zeros(1, 1, 3, 96, 96, dtype=torch.uint8)
    regions = torch.zeros(1, 1, 96, 96, dtype=torch.int64)
    regions[..., 30:60, 30:60] = 1
    disparity = torch.where(regions == 1, 0.5, 0.4)
    config = plain(pastes=(3,), scale=(1.0, 1.0), view=UNCHANGED)
    mosaic = compose(Frames(images, disparity, regions), config, [(0, 0, 0)])
    pasted = mosaic.appearances > 0
    assert pasted.sum() > 0 and torch.all(mosaic.regions[pasted] == 1)
    original = (mosaic.appearances == 0) & (mosaic.regions[0] == regions[0, 0])
    assert torch.all(original[0, 30:60, 30:60])  # equally near: the first sprite stays
    far = compose(Frames(images, 0.5 - disparity * 0.5, regions), config, [(0, 0, 0)])
    assert far.pasted_fraction == 0.0


def test_invalid_disparity_is_farthest() -> None:
    frames = scene()
    bad = frames.disparity.clone()
    bad[:, 0] = torch.tensor([0.0, -1.0, float("nan"), float("inf")]).repeat(96, 40)
    mosaic = compose(Frames(frames.images, bad, frames.regions), plain(), [(0, 0, 0)])
    zero = torch.where(torch.arange(2)[:, None, None] == 0, 0.0, frames.disparity)
    expected = compose(Frames(frames.images, zero, frames.regions), plain(), [(0, 0, 0)])
    assert same(mosaic, expected)
    bases = mosaic.appearances[::2][mosaic.appearances[::2] >= 2]
    assert len(bases) > 0


def test_same_key_same_item_in_any_batch() -> None:
    frames = scene(items=2)
    both = compose(frames, CopyPasteConfig(), [(7, 2, 4), (7, 2, 9)])
    second = Frames(frames.images[1:], frames.disparity[1:], frames.regions[1:])
    alone = compose(second, CopyPasteConfig(), [(7, 2, 9)])
    images, regions = len(alone.images), len(alone.frame_of)
    shift = len(both.frame_of) - regions
    assert torch.equal(both.images[images:], alone.images)
    assert torch.equal(both.regions[images:], alone.regions + shift)
    assert torch.equal(both.appearances[images:], alone.appearances)
    assert torch.equal(both.transforms[shift:], alone.transforms)
    assert same(both, compose(frames, CopyPasteConfig(), [(7, 2, 4), (7, 2, 9)]))
    other = compose(frames, CopyPasteConfig(), [(7, 3, 4), (7, 2, 10)])
    assert not torch.equal(both.transforms[:shift], other.transforms[:shift])
    assert not torch.equal(both.transforms[shift:], other.transforms[shift:])


def test_region_ids_never_collide() -> None:
    frames = scene(items=2, frames=2)
    mosaic = compose(frames, CopyPasteConfig(), [(0, 0, 0), (0, 0, 1)])
    counts = (frames.regions.amax((2, 3)) + 1).flatten()
    assert mosaic.frame_of.tolist() == [f for f, c in enumerate(counts.tolist()) for _ in range(c)]
    seen = [set(part.unique().tolist()) for part in mosaic.regions.chunk(2)]
    assert not seen[0] & seen[1]
    exists = mosaic.image_of >= 0
    assert torch.all(exists[:, :2])
    assert torch.all(mosaic.image_of[exists] // 4 == (mosaic.frame_of // 2)[exists.nonzero()[:, 0]])


def test_appearances_are_dealt_evenly() -> None:
    mosaic = compose(scene(frames=3), CopyPasteConfig(), [(0, 0, 0)])
    pasted = mosaic.image_of[:, 2:]
    rounds = torch.tensor([0, 0, 1, 1, 1, 1]).expand(pasted.shape)
    assert torch.all((pasted // 3 == rounds) | (pasted < 0))
    per_image = pasted[pasted >= 0].bincount(minlength=6)
    for part in per_image.split(3):
        assert part.max() - part.min() <= 1


@pytest.mark.parametrize("config", [plain(pastes=(0, 0))])
def test_switched_off_shows_the_originals_twice(config: CopyPasteConfig) -> None:
    frames = scene(frames=3)
    mosaic = compose(frames, config, [(0, 0, 0)])
    assert mosaic.images.shape[0] == 6 and mosaic.image_of.shape[1] == 2
    assert mosaic.pasted_fraction == 0.0
    assert not torch.equal(mosaic.transforms[:, 0], mosaic.transforms[:, 1])


def test_no_augmentation_at_all_returns_the_frames() -> None:
    frames = scene(frames=2)
    mosaic = compose(frames, CopyPasteConfig(pastes=(0,), view=UNCHANGED), [(0, 0, 0)])
    assert torch.allclose(mosaic.images * 255, frames.images[0].float(), atol=1e-3)
    assert torch.equal(mosaic.regions[0], frames.regions[0, 0])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (8, 64)])
@pytest.mark.parametrize("fast", [True, False])
def test_tiny_frames(size: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        tensor_path(monkeypatch)
    frames = scene(frames=1, size=size)
    mosaic = compose(frames, CopyPasteConfig(), [(0, 0, 0)])
    assert mosaic.images.shape == (2, 3, *size)
    assert torch.all((mosaic.images >= 0) & (mosaic.images <= 1))


def test_dust_and_missing_ids_are_never_pasted() -> None:
    frames = scene(frames=1)
    regions = torch.zeros_like(frames.regions)
    regions[..., 4:6, 4:6] = 3  # ids 1 and 2 have no pixels, 0 fills the frame
    mosaic = compose(
        Frames(frames.images, frames.disparity, regions), CopyPasteConfig(), [(0,) * 3]
    )
    assert torch.all(mosaic.image_of[:, 2:] == -1) and mosaic.image_of.shape == (4, 8)


def test_contours_carry_no_halo() -> None:
    """A white square on black, pasted on black at every size, keeps its white to the edge."""
    frames = scene(frames=1, size=(192, 192))
    regions = torch.zeros_like(frames.regions)
    regions[..., 60:131, 60:131] = 1
    images = torch.full_like(frames.images, 0)
    images[:, :, 1] = 255  # the old background is green
    images[..., 60:131, 60:131] = 255
    disparity = torch.where(regions == 1, 0.9, 0.01)
    view = ViewConfig(colour=PLAIN)
    mosaic = compose(Frames(images, disparity, regions), plain(view=view, pastes=(6,)), [(0, 0, 0)])
    label = mosaic.regions.numpy() * 100 + mosaic.appearances.numpy()
    inner = np.stack([minimum_filter(p, 3) == -minimum_filter(-p, 3) for p in label])
    white = torch.from_numpy(inner) & (mosaic.appearances > 0)
    assert white.sum() > 100
    assert mosaic.images.amin(1)[white].min() > 0.99


def test_bad_input_is_refused() -> None:
    frames = scene()
    with pytest.raises(InputError, match="keys"):
        compose(frames, CopyPasteConfig(), [])
    with pytest.raises(InputError, match="negative"):
        compose(
            Frames(frames.images, frames.disparity, frames.regions - 1),
            CopyPasteConfig(),
            [(0, 0, 0)],
        )
    with pytest.raises(InputError, match="uint8"):
        Frames(frames.images.float(), frames.disparity, frames.regions)
    with pytest.raises(InputError, match="disparity"):
        Frames(frames.images, frames.disparity[..., 1:], frames.regions)
    with pytest.raises(InputError, match="pastes"):
        CopyPasteConfig(pastes=(-1,))


@pytest.mark.skipif(not CAMVID.exists(), reason="CamVid clip is not beside the repository")
def test_real_street_is_mixed_in_order_of_depth() -> None:
    from skimage.io import imread
    from skimage.measure import label

    paths = sorted((CAMVID / "labels").iterdir())[::50][:2]
    classes = np.stack([imread(path)[::3, ::3] for path in paths])
    images = np.stack(
        [imread(path)[::3, ::3] for path in sorted((CAMVID / "images").iterdir())[::50]]
    )
    regions = np.stack([label(part, background=-1) - 1 for part in classes])
    disparity = np.where(classes == 0, 0.01, 0.2 + np.linspace(0, 0.5, classes.shape[1])[:, None])
    frames = Frames(
        torch.from_numpy(images[:2]).permute(0, 3, 1, 2)[None].contiguous(),
        torch.from_numpy(disparity)[None].float(),
        torch.from_numpy(regions)[None],
    )
    mosaic = compose(frames, plain(), [(0, 0, 0)])
    assert 0.05 < mosaic.pasted_fraction < 0.8
