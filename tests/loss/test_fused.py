"""The kernels for GPUs equal the PyTorch code, value by value.

Without a GPU, Triton's interpreter runs them on tensors of the host.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import reference_loss
import torch
from torch import Tensor

from cpcdr.copy_paste.config import CopyPasteConfig
from cpcdr.copy_paste.mosaic import Frames, compose
from cpcdr.loss import assignment, correspondences, swapped_prediction
from cpcdr.loss.config import LossConfig
from cpcdr.loss.scatter import scaled_difference, scatter_rows
from cpcdr.loss.sinkhorn import WIDE, on_grid, sinkhorn_codes

pytest.importorskip("triton", reason="no Triton for this machine")
from cpcdr.loss import fused, fused_points, fused_products

pytestmark = pytest.mark.filterwarnings("error:.*encountered:RuntimeWarning")  # of padding
CONFIG = LossConfig(pixel_points=60, region_points=90)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = {"rtol": 1e-3, "atol": 2e-5} if DEVICE == "cpu" else {"rtol": 1e-2, "atol": 2e-3}  # TF32
STEP = 0.5 / 32767
"""Of similarities in 16 bits: the largest error."""
IN_16_BITS = {"rtol": CLOSE["rtol"], "atol": max(CLOSE["atol"], 2e-4)}


def assert_as_by_ten_bits(gradient: Tensor, expected: Tensor) -> None:
    """Within what products of numbers with ten bits of mantissa, TF32 or float16, may differ."""
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        gradient.to(expected.dtype), expected, rtol=2e-3, atol=1e-3 * largest + 1e-7
    )


def preferred_code(
    preferred: Tensor,
    features: Tensor,
    prototypes: Tensor,
    weight: Tensor,
    parts: Sequence[int],
    config: LossConfig,
) -> Tensor:
    """Of a part: each sample's code of the prototype that it is said to prefer, [S]."""
    similarity = features @ prototypes.t()
    codes = sinkhorn_codes(similarity, weight, parts, config.epsilon, config.sinkhorn_iterations)
    whole = codes.kernel * codes.sample[:, None] * codes.prototype[0]
    return whole.gather(1, preferred[:, None])[:, 0]


def drawn(samples: int, prototypes: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features [S, C] in clumps, prototypes [K, C] and weights [S] of which some are 0."""
    generator = torch.Generator().manual_seed(samples)
    centres = torch.randn(5, channels, generator=generator)
    which = torch.randint(0, 5, (samples,), generator=generator)
    features = centres[which] + 0.7 * torch.randn(samples, channels, generator=generator)
    directions = torch.randn(prototypes, channels, generator=generator)
    normalise = torch.nn.functional.normalize
    weight = (torch.arange(samples) % 5 != 2).float()
    drawn = normalise(features, dim=1), normalise(directions, dim=1), weight
    return tuple(tensor.to(DEVICE) for tensor in drawn)  # type: ignore[return-value]


@pytest.mark.parametrize("epsilon", [0.05, 0.015, 0.005])
@pytest.mark.parametrize(
    ("parts", "prototypes", "channels"),
    [((150, 70), 40, 24), ((0, 33), 7, 5), ((40, 0), 130, 64), ((3, 2), 1, 16), ((0, 0), 9, 8)],
)
def test_the_assignment_equals_pytorchs(
    parts: tuple[int, int], prototypes: int, channels: int, epsilon: float
) -> None:
    features, directions, weight = drawn(sum(parts), prototypes, channels)
    config = replace(CONFIG, epsilon=epsilon)
    ours = fused.assign(features, directions, weight, parts, config)
    plain = assignment.assign(features, directions, weight, parts, config)
    expected, plainly = (each.expected() for each in (ours, plain))
    torch.testing.assert_close(expected, plainly, **CLOSE)
    error = 1.1 * STEP / config.temperature if epsilon >= WIDE else 1e-5
    torch.testing.assert_close(ours.log_norm, plain.log_norm, rtol=1.3e-6, atol=error)
    torch.testing.assert_close(ours.total, plain.total)
    codes, plainly = (each.code_sums * each.sample[:, None] for each in (ours, plain))
    torch.testing.assert_close(codes, plainly, **(IN_16_BITS if epsilon >= WIDE else CLOSE))
    last = features[parts[0] :], directions, weight[parts[0] :], parts[1:]
    code = preferred_code(ours.preferred, *last, config)
    largest = preferred_code(plain.preferred, *last, config)
    torch.testing.assert_close(code, largest, rtol=5 * STEP / epsilon, atol=1e-7)
    generator = torch.Generator().manual_seed(1)
    of = torch.randint(0, 6, (sum(parts),), generator=generator).to(DEVICE)
    mean, scale = torch.randn(6, channels, generator=generator).to(DEVICE), weight * 0.01
    gradient, plainly = (each.of_prototypes(features, mean, of, scale) for each in (ours, plain))
    assert_as_by_ten_bits(gradient, plainly)


def test_every_program_and_tile_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """More samples, prototypes and channels than one tile of each kernel holds."""
    monkeypatch.setattr(fused_products, "_PROGRAMS", 5)
    monkeypatch.setattr(fused_products, "_VALUES", 1024)
    monkeypatch.setattr(fused_products, "_SPLITS", 3)
    parts = (301, 150)
    features, directions, weight = drawn(451, 150, 48)
    ours = fused.assign(features, directions, weight, parts, CONFIG)
    plain = assignment.assign(features, directions, weight, parts, CONFIG)
    codes, plainly = (each.code_sums * each.sample[:, None] for each in (ours, plain))
    torch.testing.assert_close(codes, plainly, **IN_16_BITS)
    of = torch.arange(451, device=DEVICE) % 7
    arguments = features, torch.ones(7, 48, device=DEVICE), of, weight * 0.1
    assert_as_by_ten_bits(ours.of_prototypes(*arguments), plain.of_prototypes(*arguments))


def test_shifts_lie_on_the_grid() -> None:
    features, directions, weight = drawn(30, 12, 8)
    halves = *fused_products.halves_op(features), *fused_products.halves_op(directions)
    similarity, first = fused_products.similarity_op(*halves, weight, [30], 0.015, False)
    assert torch.equal(similarity[:, 12:], torch.full_like(similarity[:, 12:], -torch.inf))
    known = similarity[:, :12]
    torch.testing.assert_close(known, features @ directions.t())
    assert torch.equal(first[0], known[weight > 0].amax(dim=0))
    peak = on_grid(first)
    row_peak, _ = fused_products.first_round_op(similarity, weight, peak, [30], 0.015)
    assert torch.equal(row_peak, on_grid((known - peak).amax(dim=1)))


def test_similarities_in_16_bits_are_the_nearest() -> None:
    features, directions, weight = drawn(150, 12, 8)
    directions[0] = features[0]  # 1, or a little more by rounding
    halves = *fused_products.halves_op(features), *fused_products.halves_op(directions)
    stored, sums = fused_products.similarity_op(*halves, weight, [150], 0.05, True)
    assert stored.dtype == torch.int16
    assert torch.all(stored[:, 12:] == -32768)
    exact = features.double() @ directions.double().t()
    assert float((stored[:, :12] / 32767 - exact).abs().max()) < 1.01 * STEP
    expected = (weight[:, None] * ((exact - 1) / 0.05).exp()).sum(dim=0)
    torch.testing.assert_close(sums[0].double(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("epsilon", [0.05, 0.015])
def test_what_fills_up_is_skipped_and_changes_nothing(epsilon: float) -> None:
    config = replace(CONFIG, epsilon=epsilon)
    features, directions, weight = drawn(420, 30, 16)
    weight[130:320] = 0  # of two parts of 320 and 100
    kept = torch.cat([torch.arange(130), torch.arange(320, 420)]).to(DEVICE)
    ours = fused.assign(features, directions, weight, (320, 100), config)
    alone = fused.assign(features[kept], directions, weight[kept], (130, 100), config)
    for name in ("code_sums", "sample", "log_norm"):
        torch.testing.assert_close(getattr(ours, name)[kept], getattr(alone, name))
        assert torch.isfinite(getattr(ours, name)).all()
    assert torch.equal(ours.preferred, alone.preferred)
    torch.testing.assert_close(ours.expected()[kept], alone.expected())
    assert torch.isfinite(ours.expected()).all()
    of, mean = torch.arange(420, device=DEVICE) % 7, torch.ones(7, 16, device=DEVICE)
    torch.testing.assert_close(
        ours.of_prototypes(features, mean, of, weight),
        alone.of_prototypes(features[kept], mean, of[kept], weight[kept]),
    )


@pytest.mark.parametrize("epsilon", [0.05, 0.015])
def test_loss_and_gradients_equal_the_reference(
    epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole custom gradient, through the kernels, against autograd in float64."""
    monkeypatch.setattr(swapped_prediction, "fused_kernels", lambda *_: fused)
    config = replace(CONFIG, epsilon=epsilon)
    features, directions, weight = drawn(80, 20, 16)
    group = torch.randint(0, 9, (80,), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    group[30:] += 9
    shares, parts = (0.3, 0.9), (30, 50)
    groups = swapped_prediction.Groups(group, weight, 18, parts, shares)
    inputs = features.clone().requires_grad_(), directions.clone().requires_grad_()
    loss = swapped_prediction.swapped_prediction(*inputs, groups, config)[0]
    ours = (loss.detach(), *torch.autograd.grad(loss, inputs))
    exact = features.double().requires_grad_(), directions.double().requires_grad_()
    whole = exact[0].new_zeros(())
    for rows, share in zip((slice(0, 30), slice(30, 80)), shares, strict=True):
        kept = weight[rows] > 0
        own = exact[0][rows][kept], exact[1], group[rows][kept]
        whole = whole + share * reference_loss.part_loss(*own, config)[0]
    reference = (whole.detach(), *torch.autograd.grad(whole, exact))
    for one, other in zip(ours[:2], reference, strict=False):
        torch.testing.assert_close(one.double(), other, **CLOSE)
    assert_as_by_ten_bits(ours[2], reference[2])


def test_places_of_points_equal_pytorchs() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (1, 3, 3, 40, 60), dtype=torch.uint8, generator=generator)
    regions = (torch.arange(60) // 9 + 7 * (torch.arange(40)[:, None] // 11)).int()
    disparity = torch.rand(1, 3, 40, 60, generator=generator)
    frames = Frames(images, disparity, regions.expand(1, 3, 40, 60).contiguous())
    mosaic = compose(frames, CopyPasteConfig(), [(0, 0, 1)])
    maps = [mosaic.regions, mosaic.appearances.long(), mosaic.transforms, mosaic.image_of]
    y, x = torch.meshgrid(torch.arange(0, 40, 3), torch.arange(0, 60, 2), indexing="ij")
    xy = torch.stack([x.flatten(), y.flatten()], dim=1).repeat(len(mosaic.images), 1)
    image = torch.arange(len(mosaic.images)).repeat_interleave(x.numel())
    arguments = [tensor.to(DEVICE) for tensor in (image, xy, *maps)]
    visible, images, there = fused_points.candidates_op(*arguments)
    plain = correspondences.candidates(*arguments)
    assert 0.1 < visible.float().mean() < 0.9
    assert torch.equal(visible, plain[0])
    assert torch.equal(images, plain[1])
    torch.testing.assert_close(there[visible], plain[2][visible], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("cells", [(10, 15), (1, 4), (5, 1), (40, 60)])
def test_cells_around_points_equal_pytorchs(cells: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(4)
    image = torch.randint(0, 3, (500,), generator=generator).to(DEVICE)
    xy = (torch.rand(500, 2, generator=generator) * 1.1 - 0.05).to(DEVICE)
    xy = xy * torch.tensor([60.0, 40.0], device=DEVICE)
    rows, weight = fused_points.taps_op(image, xy, list(cells), [40, 60])
    expected = correspondences.taps(image, xy, cells, (40, 60))
    assert torch.equal(rows, expected[0])
    torch.testing.assert_close(weight, expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("samples", "taps", "channels"), [(50, 1, 24), (33, 4, 5), (0, 4, 8)])
def test_scattered_rows_equal_pytorchs(samples: int, taps: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(samples, channels, generator=generator)
    rows = torch.randint(0, 7, (samples, taps), generator=generator)
    weight = torch.rand(samples, taps, generator=generator) * (rows != 3)
    ours = fused_points.scatter_op(*(t.to(DEVICE) for t in (values, rows, weight)), 9)
    expected = scatter_rows(values.double(), rows, weight.double(), 9)
    torch.testing.assert_close(ours.double().cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("samples", "taps", "channels"), [(50, 1, 24), (133, 4, 5), (0, 4, 8)])
def test_unit_rows_and_their_gradient_equal_pytorchs(
    samples: int, taps: int, channels: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(6)
    table = torch.randn(7, channels, generator=generator).to(dtype)
    rows = torch.randint(0, 7, (samples, taps), generator=generator)
    weight = torch.rand(samples, taps, generator=generator) * (rows != 3)
    gradient = torch.randn(samples, channels, generator=generator)
    gradient[20:] *= torch.arange(len(gradient[20:]))[:, None] % 2  # half of it is filled up
    table, rows, weight, gradient = (t.to(DEVICE) for t in (table, rows, weight, gradient))
    unit, norm = fused_points.unit_rows_op(table, rows, weight)
    plain = correspondences.unit_rows(table, rows, weight)
    torch.testing.assert_close(unit, plain[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm, plain[1], rtol=1e-5, atol=1e-6)
    ours = fused_points.unit_rows_gradient_op(gradient, *plain, rows, weight, 9)
    expected = correspondences.unit_rows_gradient(gradient, *plain, rows, weight, 9)
    whole = float(expected.abs().max())  # of rows of length 0 it is huge
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * whole + 1e-5)


@pytest.mark.parametrize(("samples", "channels"), [(50, 24), (0, 8), (133, 5)])
def test_scaled_differences_equal_pytorchs(samples: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(7)
    values, means = (torch.randn(n, channels, generator=generator) for n in (samples, 9))
    of = torch.randint(0, 9, (samples,), generator=generator)
    scale = torch.rand(samples, generator=generator) * (torch.arange(samples) % 3 != 1)
    expected = scaled_difference(values, means, of, scale)
    values[scale == 0] = torch.nan  # what does not count is not read
    ours = fused_points.scaled_difference_op(*(t.to(DEVICE) for t in (values, means, of, scale)))
    torch.testing.assert_close(ours.cpu(), expected)


def test_gpus_take_the_kernels_where_they_fit() -> None:
    def chosen(device: str, prototypes: int = 10, channels: int = 8, **changes: float) -> bool:
        features = torch.empty(4, channels, device=device)
        directions = torch.empty(prototypes, channels, device=device)
        return bool(assignment.fused_kernels(features, directions, replace(CONFIG, **changes)))

    assert chosen("meta")
    assert chosen("meta", epsilon=0.005)
    assert not chosen("cpu")
    assert not chosen("meta", temperature=0.01)
    assert not chosen("meta", channels=512)
    assert not chosen("meta", prototypes=20000)


@pytest.mark.slow
def test_the_kernels_compile_for_an_h100() -> None:
    """By Triton's own compiler, which needs no GPU: shared memory that fits."""
    script = Path(__file__).parents[1] / "compile_kernels.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, str(script)], check=True, env=environment, timeout=300)
