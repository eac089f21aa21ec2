"""Operations on samples and prototypes for `cpcdr.loss.fused`, one or a few Triton kernels each.

PyTorch knows them by name, so that a step with them compiles to one graph and is counted on the
device ``meta``.
"""

# The arguments of what stands for an operation on the device ``meta`` are the operation's.
# mypy: disable-error-code="no-untyped-def, no-any-return"

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from cpcdr.loss import kernels
from cpcdr.loss.sinkhorn import TINY

_ROWS, _COLUMNS, _INNER = 128, 64, 32
"""Tile of a product: samples, prototypes, channels."""
_SAMPLES, _PROTOTYPES = 64, 32
"""Tile of an assignment: samples whose sums a program keeps, prototypes that it reads at once."""
_GRADIENT_ROWS, _GRADIENT_COLUMNS = 32, 128
"""Tile of the prototypes' gradient: samples read at once, prototypes whose sums are kept."""
_PADDED = 128
"""Rows of similarities are a multiple of it, as long as every tile is wide."""
LIFT = 4096.0
"""What shares in 0..1 are multiplied by before they are rounded to float16."""
_PROGRAMS, _VALUES = 2112, 2048
"""Of a round of Sinkhorn: programs that share the samples, and similarities each holds at once."""
_SPLITS = 64
"""Shares of the samples whose part in the prototypes' gradient is summed apart."""


@torch.library.custom_op("cpcdr::halves", mutates_args=())
def halves_op(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [S, C] rounded to float16, and what was rounded off, in rows of `_channels`."""
    samples, channels = values.shape
    padded = _channels(channels)
    high = values.new_empty(samples, padded, dtype=torch.float16)
    low = torch.empty_like(high)
    if samples:
        rows = max(1, 4096 // padded)
        kernels.halves_kernel[(triton.cdiv(samples, rows),)](
            *(values, high, low, samples, channels), ROWS=rows, CHANNELS=padded
        )
    return high, low


@halves_op.register_fake
def _(values):
    high = values.new_empty(len(values), _channels(values.shape[1]), dtype=torch.float16)
    return high, torch.empty_like(high)


@torch.library.custom_op("cpcdr::similarity", mutates_args=())
def similarity_op(
    high: Tensor,
    low: Tensor,
    prototypes_high: Tensor,
    prototypes_low: Tensor,
    weight: Tensor,
    parts: list[int],
    epsilon: float,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    """Similarities [S, K] in padded rows, and by part and prototype, [parts, K], the sum over the
    weighted samples of exp((similarity - 1) / epsilon), or the largest of those that count. Of
    samples of weight 0 similarities may be 0 instead."""
    (samples, channels), count = high.shape, len(prototypes_high)
    similarity = weight.new_empty(samples, _padded(count), dtype=_stored(wide))
    found = []
    for first, last in _spans(parts):
        blocks = triton.cdiv(last - first, _ROWS)
        partial = weight.new_empty(blocks, count)
        if blocks:
            kernels.similarity_kernel[(similarity.shape[1] // _COLUMNS, blocks)](
                *(high, low, prototypes_high, prototypes_low, weight, similarity, partial),
                *(first, last, count, similarity.shape[1], 1 / epsilon),
                WIDE=wide,
                ROWS=_ROWS,
                COLUMNS=_COLUMNS,
                INNER=min(_INNER, channels),
                CHANNELS=channels,
                num_warps=4,
            )
        elif not wide:
            partial = weight.new_full((1, count), -1.0)
        found.append(partial.sum(dim=0) if wide else partial.amax(dim=0))
    return similarity, torch.stack(found)


@similarity_op.register_fake
def _(high, low, prototypes_high, prototypes_low, weight, parts, epsilon, wide):
    count = len(prototypes_high)
    similarity = weight.new_empty(len(high), _padded(count), dtype=_stored(wide))
    return similarity, weight.new_empty(len(parts), count)


@torch.library.custom_op("cpcdr::first_round", mutates_args=())
def first_round_op(
    similarity: Tensor, weight: Tensor, peak: Tensor, parts: list[int], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Each sample's largest similarity less its prototype's ``peak`` [parts, K], rounded as
    `on_grid`: [S]; and the sums of the first round: [parts, K]."""
    row_peak = torch.empty_like(weight)
    return row_peak, _round(similarity, weight, peak, row_peak, None, parts, epsilon)


@first_round_op.register_fake
def _(similarity, weight, peak, parts, epsilon):
    return torch.empty_like(weight), torch.empty_like(peak)


@torch.library.custom_op("cpcdr::round", mutates_args=())
def round_op(
    similarity: Tensor,
    weight: Tensor,
    peak: Tensor,
    row_peak: Tensor,
    prototype: Tensor,
    parts: list[int],
    epsilon: float,
) -> Tensor:
    """A round of Sinkhorn: sums by prototype of samples that are scaled to a sum of 1."""
    return _round(similarity, weight, peak, row_peak, prototype, parts, epsilon)


@round_op.register_fake
def _(similarity, weight, peak, row_peak, prototype, parts, epsilon):
    return torch.empty_like(peak)


def _round(
    similarity: Tensor,
    weight: Tensor,
    peak: Tensor,
    row_peak: Tensor,
    prototype: Tensor | None,
    parts: list[int],
    epsilon: float,
) -> Tensor:
    count, stride = peak.shape[1], similarity.shape[1]
    padded = triton.next_power_of_2(stride)
    rows, found = max(1, _VALUES // padded), []
    for number, (first, last) in enumerate(_spans(parts)):
        each = rows * triton.cdiv(last - first, rows * _PROGRAMS)
        programs = triton.cdiv(last - first, each) if each else 0
        partial = weight.new_empty(programs, count)
        if programs:
            scale = peak if prototype is None else prototype
            kernels.columns_kernel[(programs,)](
                *(similarity, weight, peak[number], row_peak, scale[number], partial),
                *(first, last, count, stride, each, 1 / epsilon, TINY),
                FIRST=prototype is None,
                ROWS=rows,
                COLUMNS=padded,
                num_warps=4 if padded <= 4096 else 8,
            )
        found.append(partial.sum(dim=0))
    return torch.stack(found)


@torch.library.custom_op("cpcdr::assign", mutates_args=())
def assign_op(
    similarity: Tensor,
    weight: Tensor,
    prototypes: Tensor,
    peak: Tensor,
    row_peak: Tensor,
    prototype: Tensor,
    parts: list[int],
    epsilon: float,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of codes, not yet scaled by sample: their products with the prototypes [S, C] and sums [S];
    of the softmax: its products [S, C] and denominators [S]; the largest code's index [S]. Of
    samples of weight 0 they are finite, and no more."""
    (samples, stride), (count, channels) = similarity.shape, prototypes.shape
    padded = _channels(channels)
    across = prototypes.new_zeros(padded, stride)
    across[:channels, :count] = prototypes.t()
    code_sums, said = prototypes.new_empty(samples, channels), torch.empty_like(row_peak)
    expected, norm = torch.empty_like(code_sums), torch.empty_like(row_peak)
    preferred = torch.empty_like(row_peak, dtype=torch.int64)
    for number, (first, last) in enumerate(_spans(parts)):
        if last > first:
            kernels.assign_kernel[(triton.cdiv(last - first, _SAMPLES),)](
                *(similarity, weight, across, peak[number], row_peak, prototype[number]),
                *(code_sums, said, expected, norm, preferred, first, last),
                *(count, stride, channels, 1 / epsilon, 1 / temperature),
                ROWS=_SAMPLES,
                COLUMNS=_PROTOTYPES,
                CHANNELS=padded,
                num_warps=_warps(padded),
            )
    return code_sums, said, expected, norm, preferred


@assign_op.register_fake
def _(similarity, weight, prototypes, peak, row_peak, prototype, parts, epsilon, temperature):
    products = prototypes.new_empty(len(similarity), prototypes.shape[1])
    sums = torch.empty_like(row_peak)
    index = torch.empty_like(row_peak, dtype=torch.int64)
    return products, sums, torch.empty_like(products), torch.empty_like(sums), index


@torch.library.custom_op("cpcdr::prototype_gradient", mutates_args=())
def prototype_gradient_op(
    similarity: Tensor,
    features: Tensor,
    mean: Tensor,
    of: Tensor,
    of_softmax: Tensor,
    of_codes: Tensor,
    peak: Tensor,
    row_peak: Tensor,
    prototype: Tensor,
    parts: list[int],
    epsilon: float,
    temperature: float,
) -> Tensor:
    """The sum over samples of exp(similarity / temperature) of_softmax features less codes, not yet
    scaled by sample, times of_codes mean[of]: [K, C], `LIFT` times. Factors bring what they weigh
    to 0..1; features are float16, in rows of C that is one of `_channels`."""
    padded, (count, stride) = features.shape[1], (peak.shape[1], similarity.shape[1])
    mean, found = torch.nn.functional.pad(mean.half(), (0, padded - mean.shape[1])), []
    for number, (first, last) in enumerate(_spans(parts)):
        each = _GRADIENT_ROWS * triton.cdiv(last - first, _GRADIENT_ROWS * _SPLITS)
        splits = triton.cdiv(last - first, each) if each else 0
        partial = peak.new_empty(splits, count, padded)
        if splits:
            kernels.prototype_gradient_kernel[(triton.cdiv(count, _GRADIENT_COLUMNS), splits)](
                *(similarity, features, mean, of, of_softmax, of_codes),
                *(peak[number], row_peak, prototype[number], partial, first, last),
                *(count, stride, each, 1 / epsilon, 1 / temperature),
                LIFT=LIFT,
                ROWS=_GRADIENT_ROWS,
                COLUMNS=_GRADIENT_COLUMNS,
                CHANNELS=padded,
                num_warps=_warps(padded),
            )
        found.append(partial.sum(dim=0))
    return torch.stack(found).sum(dim=0)


@prototype_gradient_op.register_fake
def _(
    similarity,
    features,
    mean,
    of,
    of_softmax,
    of_codes,
    peak,
    row_peak,
    prototype,
    parts,
    epsilon,
    temperature,
):
    return peak.new_empty(peak.shape[1], features.shape[1])


def _channels(channels: int) -> int:
    """The length of a row of float16: a product's tiles are powers of two."""
    return max(16, triton.next_power_of_2(channels))


def _stored(wide: bool) -> torch.dtype:
    return torch.int16 if wide else torch.float32


def _warps(channels: int) -> int:
    """Of a program that keeps sums of ``channels``, so that they fit its registers."""
    return 4 if channels <= 128 else 8


def _padded(count: int) -> int:
    """The length of a row of similarities to ``count`` prototypes."""
    return -(-count // _PADDED) * _PADDED


def _spans(parts: Sequence[int]) -> list[tuple[int, int]]:
    """First and last sample, exclusive, of each part."""
    ends = [sum(parts[: number + 1]) for number in range(len(parts))]
    return list(zip([0, *ends], ends, strict=False))
