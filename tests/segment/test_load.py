"""From scores at the network's size to classes at the image's."""

import numpy as np
import pytest
import torch

from cpcdr.segment import load
from cpcdr.segment.load import highest


def half_planes(size: tuple[int, int], turns: int = 5) -> torch.Tensor:
    """Scores [2 * turns, *size] that are linear in the place, from 0 to 1 over the image."""
    rows, columns = size
    y = (torch.arange(rows) + 0.5)[:, None] / rows - 0.5
    x = (torch.arange(columns) + 0.5)[None] / columns - 0.5
    angles = torch.arange(2 * turns) * torch.pi / turns + 0.3
    return torch.stack([x * a.cos() + y * a.sin() for a in angles])


@pytest.mark.parametrize("size", [(90, 160), (135, 240), (20, 33)])
def test_edges_are_those_of_the_scores_and_not_of_their_pixels(size: tuple[int, int]) -> None:
    small, exact = half_planes((24, 40)), half_planes(size).argmax(0).numpy()
    inner = np.s_[size[0] // 20 : -(size[0] // 20), size[1] // 20 : -(size[1] // 20)]
    ids = highest(small, size)
    assert ids.dtype == np.uint8 and ids.shape == size
    assert (ids[inner] == exact[inner]).mean() > 0.999


def test_few_scores_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(11, 8, 9, generator=torch.Generator().manual_seed(0))
    whole = highest(scores, (30, 31))
    monkeypatch.setattr(load, "_HELD", 3 * 30 * 31)
    np.testing.assert_array_equal(highest(scores, (30, 31)), whole)
    np.testing.assert_array_equal(highest(scores, (8, 9)), scores.argmax(0).numpy())
