"""A variant differs from the full method in its factor and in nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cpcdr.ablate.variants import FACTORS, FULL, UNTRAINED, pretraining, variant, variants_of
from cpcdr.copy_paste.mosaic import Frames, Mosaic, compose
from cpcdr.runtime.config import to_plain
from cpcdr.runtime.errors import InputError
from cpcdr.train.config import PretrainConfig


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def settings(name: str, seed: int = 3) -> dict[str, Any]:
    chosen = variant(name)
    data = Path(f"data-{chosen.regions}")
    return flat(to_plain(pretraining(chosen, PretrainConfig().settings(), data, seed, 40)))


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no-copy-paste", {"copy_paste.pastes"}),
        ("slic", {"data"}),
        ("felzenszwalb", {"data"}),
        ("objects", {"data"}),
        ("pixel-only", {"loss.pixel_weight", "loss.region_weight"}),
        ("region-only", {"loss.pixel_weight", "loss.region_weight"}),
        ("no-copy-paste+slic", {"copy_paste.pastes", "data"}),
        (
            "paper-colours",
            {
                f"copy_paste.{part}.{name}"
                for part in ("colour", "view.colour")
                for name in ("jitter", "jitter_probability", "blur_probability", "grey_probability")
            },
        ),
        ("any-height", {"copy_paste.vertical_jitter"}),
        ("large-zoom", {"copy_paste.view.zoom"}),
        ("half-unmixed", {"copy_paste.pastes"}),
        ("clean-norm", {"model.norm"}),
        ("separate-norm", {"model.norm", "copy_paste.pastes"}),
        ("group-norm", {"model.normalisation"}),
        ("replicate-padding", {"model.padding"}),
        (
            "no-copy-paste+clean-norm+large-zoom",
            {"copy_paste.pastes", "model.norm", "copy_paste.view.zoom"},
        ),
    ],
)
def test_only_the_factor_changes(name: str, changed: set[str]) -> None:
    full, other = settings(FULL), settings(name)
    assert full.keys() == other.keys()
    assert {key for key in full if full[key] != other[key]} == changed
    assert other["loss.pixel_weight"] + other["loss.region_weight"] == pytest.approx(1.0)
    assert other["train.steps"] == 40 and other["seed"] == 3


def test_every_factor_is_tested_above() -> None:
    changes = {name: settings(name) != settings(FULL) for name in FACTORS}
    assert changes == {name: name != FULL for name in FACTORS}


def test_without_copy_paste_the_same_views_show_the_frames_themselves() -> None:
    """Seeds pair: what differs between variants is the factor, not the draws around it."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 48, 96), generator=draw, dtype=torch.uint8)
    disparity = torch.rand(4, 48, 96, generator=draw) + 0.1
    quarters = (torch.arange(48)[:, None] // 24 * 2 + torch.arange(96) // 48).int()
    halves = (torch.arange(96) // 48).int().expand(48, 96)

    def mosaic(name: str, regions: torch.Tensor) -> Mosaic:
        usual = PretrainConfig().settings()
        config = pretraining(variant(name), usual, Path("data"), 3, 40).copy_paste
        frames = Frames(images[None], disparity[None], regions.expand(1, 4, 48, 96))
        return compose(frames, config, [(3, 1, 2)])

    full, plain = mosaic("full", quarters), mosaic("no-copy-paste", quarters)
    assert full.pasted_fraction > 0 and plain.pasted_fraction == 0
    assert full.images.shape == plain.images.shape and full.rounds == plain.rounds == 2
    other = mosaic("slic", halves)
    # The view of each original, of the first region of each frame.
    for found, per_frame in ((plain, 4), (other, 2)):
        views = found.transforms[::per_frame, :2]
        torch.testing.assert_close(views, full.transforms[::4, :2], rtol=0, atol=0)
    shown = full.appearances < full.rounds
    deep = ~torch.nn.functional.max_pool2d((~shown).float()[None], 3, 1, 1)[0].bool()
    torch.testing.assert_close(
        full.images.permute(0, 2, 3, 1)[deep], plain.images.permute(0, 2, 3, 1)[deep]
    )


def test_names_are_unique_and_the_untrained_network_comes_along() -> None:
    names = [v.name for v in variants_of(["slic", "full", "slic"])]
    assert names == [UNTRAINED, "slic", "full"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("slick", "slick"),
        ("slic+objects", "regions"),
        ("pixel-only+region-only", "no loss"),
        ("", "''"),
    ],
)
def test_a_variant_that_means_nothing(name: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        variants_of([name])
