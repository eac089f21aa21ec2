"""The context test: blind to what is blind, and it sees what looks around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.ablate.context import (
    GROUND,
    OBJECTS,
    ContextTest,
    between_scenes,
    context_score,
    find_place,
    inner_cells,
    load_context_test,
    make_context_test,
    save_context_test,
    suitable,
)
from cpcdr.ablate.labelled import LabelledFrames
from cpcdr.frames import get_protocol
from cpcdr.frames.protocols import PROTOCOLS

PROTOCOL = get_protocol("synthetic")
FLAT, SKY, CAR = (PROTOCOL.classes.index(name) for name in ("flat", "sky", "vehicle"))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_names_what_is_pasted_and_what_it_stands_on(name: str) -> None:
    classes = PROTOCOLS[name].classes
    assert any(each in classes for each in OBJECTS)
    assert any(each in classes for each in GROUND)


def scene(seed: int, left: int | None = 40) -> tuple[np.ndarray, np.ndarray]:
    """Sky over road of random colours, with a car whose columns begin at ``left``."""
    rng = np.random.default_rng(seed)
    labels = np.full((64, 128), SKY, np.uint8)
    labels[32:] = FLAT
    if left is not None:
        labels[30:46, left : left + 24] = CAR
    colours = rng.integers(0, 256, (len(PROTOCOL.classes), 3))
    colours[CAR] = 200, 30, 30
    return colours[labels].astype(np.uint8), labels


def frames(*scenes: tuple[np.ndarray, np.ndarray]) -> LabelledFrames:
    images, labels = (np.stack(parts) for parts in zip(*scenes, strict=True))
    return LabelledFrames(images, labels, PROTOCOL)


class Patches(nn.Module):
    """Mean colours of cells: ``around`` says how much of the whole image's mean is mixed in."""

    def __init__(self, around: float, scale: float = 1.0) -> None:
        super().__init__()
        self.around, self.scale = around, scale
        self.offset = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        cells = functional.avg_pool2d(images, 4)
        whole = images.mean((2, 3), keepdim=True)
        mixed = (1 - self.around) * cells + self.around * whole
        return self.scale * mixed + (1 - self.scale) * self.offset


@pytest.fixture(scope="module")
def pasted() -> ContextTest:
    test = make_context_test(frames(*(scene(k, 40 if k < 2 else None) for k in range(8))), 2, 4)
    assert test is not None
    return test


def test_cars_are_pasted_whole_and_unchanged_where_they_stand_on_the_road(
    pasted: ContextTest,
) -> None:
    assert len(pasted.images) == 8 and sorted(set(pasted.objects.tolist())) == [0, 1]
    assert len(pasted.scenes) == 4
    for image, mask in zip(pasted.images, pasted.masks, strict=True):
        assert mask.sum() == 16 * 24 and mask[30:46, 40:64].all()
        assert (image[mask] == [200, 30, 30]).all()
    first = pasted.images[0][~pasted.masks[0]]
    np.testing.assert_array_equal(first, pasted.scenes[0][~pasted.masks[0]])


def test_features_that_look_around_move_and_local_ones_do_not(pasted: ContextTest) -> None:
    local = context_score(Patches(0.0), pasted)  # type: ignore[arg-type]
    wide = context_score(Patches(0.6), pasted)  # type: ignore[arg-type]
    wider = context_score(Patches(0.9), pasted)  # type: ignore[arg-type]
    assert local.context == pytest.approx(0, abs=1e-6) and local.apart > 0.05
    assert 0.05 < wide.context < wider.context < 1.05


def test_collapse_does_not_win(pasted: ContextTest) -> None:
    wide = context_score(Patches(0.6), pasted)  # type: ignore[arg-type]
    nearly = context_score(Patches(0.6, scale=0.01), pasted)  # type: ignore[arg-type]
    assert nearly.moves < 1e-3 * wide.moves, "alone, the movement would let it win"
    assert nearly.context > 0.3 * wide.context
    assert np.isnan(context_score(Patches(0.6, scale=0.0), pasted).context)  # type: ignore[arg-type]


class Places(Patches):
    """Features that tell the place in the image, and a trace of the scene."""

    def forward(self, images: Tensor) -> Tensor:
        cells = super().forward(images)
        rows = torch.linspace(0, 1, cells.shape[2])[:, None].expand(cells.shape[2:])
        columns = torch.linspace(0, 1, cells.shape[3]).expand(cells.shape[2:])
        place = torch.stack([rows, columns, torch.ones_like(rows)])
        return place + 0.01 * images[:, :, :8].mean((2, 3), keepdim=True)


def test_telling_the_place_does_not_win(pasted: ContextTest) -> None:
    found = context_score(Places(0.0), pasted)  # type: ignore[arg-type]
    assert found.moves < 1e-3, "alone, the movement would let it win"
    assert found.context == pytest.approx(1, abs=1e-3)


def test_distances_by_hand() -> None:
    features = np.array([[1.0, 0], [0, 2], [3, 0], [-1, 0]])
    objects = np.array([0, 0, 1, 1])
    assert between_scenes(features, features, objects) == pytest.approx((1 + 2) / 2)
    others = np.array([[1.0, 0], [5, 0], [0, 1], [0, -1]])
    assert between_scenes(features, others, objects) == pytest.approx(((0 + 1) / 2 + 1) / 2)


def test_only_whole_cars_of_a_useful_size_are_taken() -> None:
    mask = np.zeros((64, 128), bool)
    mask[30:46, 0:24] = True  # cut by the border
    mask[50:53, 60:64] = True  # too small
    mask[20:24, 30:110] = True  # a row of them
    assert suitable(mask) == []
    mask[30:46, 60:84] = True
    (found,) = suitable(mask)
    assert found.sum() == 16 * 24


def test_the_nearest_column_with_road_is_taken() -> None:
    _, labels = scene(0, None)
    mask = np.zeros((64, 128), bool)
    mask[30:46, 41:65] = True
    assert find_place(mask, labels, CAR, FLAT) == 0
    occupied = labels.copy()
    occupied[30:46, 41:53] = CAR
    assert find_place(mask, occupied, CAR, FLAT) == 12, "not over another car"
    labels[46:, 44:] = SKY
    shift = find_place(mask, labels, CAR, FLAT)
    assert shift is not None and shift % 4 == 0 and -24 <= shift < 0
    labels[46:] = SKY
    assert find_place(mask, labels, CAR, FLAT) is None


def test_inner_cells_are_covered_cells() -> None:
    mask = np.zeros((16, 16), bool)
    mask[4:12, 5:12] = True
    cells = inner_cells(mask, (4, 4))
    assert cells.sum() == 4 and cells[1:3, 1:3].all()
    tiny = np.zeros((16, 16), bool)
    tiny[0, 0] = True
    assert inner_cells(tiny, (4, 4)).sum() == 1


def test_without_cars_there_is_no_test_and_a_stored_one_comes_back(
    tmp_path: Path, pasted: ContextTest
) -> None:
    assert make_context_test(frames(*(scene(k, None) for k in range(4))), 2, 3) is None
    path = tmp_path / "context.npz"
    assert load_context_test(path) is None
    save_context_test(pasted, path)
    again = load_context_test(path)
    assert again is not None and list(tmp_path.iterdir()) == [path]
    for name, value in vars(pasted).items():
        np.testing.assert_array_equal(getattr(again, name), value)
