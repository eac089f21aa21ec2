"""Triton kernels of `cpcdr.loss.fused`: names are those there, and matrices lie row by row.

A launch works on the samples from ``first`` to ``last``, exclusive: a part of the batch. Rows of
similarities are ``stride`` long, a multiple of every tile's width and of 16, so that a thread reads
four at once: those beyond the last prototype, and of samples beyond the last, are minus infinity,
whose exponentials are 0.
"""

# Parameters of kernels are pointers, numbers and compile-time constants: Triton's own types.
# mypy: disable-error-code="no-untyped-def, no-any-return, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def similarity_kernel(
    features,
    prototypes,
    weight,
    similarity,
    partial,
    first,
    last,
    count,
    stride,
    channels,
    inverse_epsilon,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    block = tl.program_id(0)
    row = first + block * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = row < last, column < count
    found = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, channels, INNER):
        inner = start + tl.arange(0, INNER)
        is_inner = inner < channels
        left = tl.load(
            features + row.to(tl.int64)[:, None] * channels + inner[None, :],
            mask=is_row[:, None] & is_inner[None, :],
            other=0.0,
        )
        right = tl.load(
            prototypes + column[None, :] * channels + inner[:, None],
            mask=is_inner[:, None] & is_column[None, :],
            other=0.0,
        )
        found = tl.dot(left, right, found, input_precision="tf32x3")
    at = row.to(tl.int64)[:, None] * stride + column[None, :]
    known = tl.where(is_column[None, :], found, float("-inf"))
    tl.store(similarity + at, known, mask=is_row[:, None])
    counted = tl.load(weight + row, mask=is_row, other=0.0)[:, None]
    if WIDE:
        result = tl.sum(counted * tl.exp((found - 1.0) * inverse_epsilon), axis=0)
    else:
        result = tl.max(tl.where(counted > 0, found, -1.0), axis=0)
    tl.store(partial + block.to(tl.int64) * count + column, result, mask=is_column)


@triton.jit
def columns_kernel(
    similarity,
    weight,
    peak,
    row_peak,
    prototype,
    partial,
    first,
    last,
    count,
    stride,
    each,
    inverse_epsilon,
    tiny,
    FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    is_column, inside = column < count, (column < stride)[None, :]
    highest = tl.load(peak + column, mask=is_column, other=0.0)[None, :]
    scale = tl.load(prototype + column, mask=is_column, other=0.0)[None, :]
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    start = first + program * each
    for at in range(start, tl.minimum(start + each, last), ROWS):
        row = at + tl.arange(0, ROWS)
        is_row = row < last
        found = tl.load(
            similarity + row.to(tl.int64)[:, None] * stride + column[None, :],
            mask=is_row[:, None] & inside,
            other=float("-inf"),
        )
        if FIRST:
            shift = tl.ceil(tl.max(found - highest, axis=1) * 4096.0) / 4096.0
            shift = tl.where(is_row, shift, 0.0)
            tl.store(row_peak + row, shift, mask=is_row)
        else:
            shift = tl.load(row_peak + row, mask=is_row, other=0.0)
        code = tl.exp((found - (highest + shift[:, None])) * inverse_epsilon)
        if FIRST:
            factor = tl.exp(shift * inverse_epsilon)
        else:
            factor = 1.0 / tl.maximum(tl.sum(code * scale, axis=1), tiny)
        counted = tl.load(weight + row, mask=is_row, other=0.0)
        sums += (factor * counted)[:, None] * code
    tl.store(partial + program * count + column, tl.sum(sums, axis=0), mask=is_column)


@triton.jit
def assign_kernel(
    similarity,
    prototypes,
    peak,
    row_peak,
    prototype,
    code_sums,
    said,
    expected,
    norm,
    preferred,
    first,
    last,
    count,
    stride,
    channels,
    inverse_epsilon,
    inverse_temperature,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    # The matrix units take TF32 only where the summed dimension lies together: ``prototypes`` is
    # [CHANNELS, stride], zero beyond the last.
    row = first + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    is_row, is_channel = row < last, channel < channels
    shift = tl.load(row_peak + row, mask=is_row, other=0.0)[:, None]
    code_total, soft_total = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32)
    largest, index = tl.full([ROWS], -1.0, tl.float32), tl.zeros([ROWS], tl.int64)
    of_codes = tl.zeros([ROWS, CHANNELS], tl.float32)
    of_softmax = tl.zeros([ROWS, CHANNELS], tl.float32)
    for start in range(0, stride, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        is_column = column < count
        at = row.to(tl.int64)[:, None] * stride + column[None, :]
        found = tl.load(similarity + at, mask=is_row[:, None], other=float("-inf"))
        highest = tl.load(peak + column, mask=is_column, other=0.0)[None, :]
        scale = tl.load(prototype + column, mask=is_column, other=0.0)[None, :]
        code = tl.exp((found - (highest + shift)) * inverse_epsilon) * scale
        soft = tl.exp(found * inverse_temperature)
        code_total += tl.sum(code, axis=1)
        soft_total += tl.sum(soft, axis=1)
        best = tl.max(code, axis=1)
        where = start + tl.argmax(code, axis=1)
        index = tl.where(best > largest, where, index)
        largest = tl.maximum(best, largest)
        rows = tl.load(prototypes + channel[None, :] * stride + column[:, None])
        of_codes = tl.dot(code, rows, of_codes, input_precision="tf32")
        of_softmax = tl.dot(soft, rows, of_softmax, input_precision="tf32")
    inside = is_row[:, None] & is_channel[None, :]
    at = row.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(code_sums + at, of_codes, mask=inside)
    soft_total = tl.where(is_row, soft_total, 1.0)
    tl.store(expected + at, of_softmax / soft_total[:, None], mask=inside)
    tl.store(said + row, code_total, mask=is_row)
    tl.store(norm + row, soft_total, mask=is_row)
    tl.store(preferred + row, index, mask=is_row)


@triton.jit
def prototype_gradient_kernel(
    similarity,
    features,
    mean,
    of,
    of_softmax,
    of_codes,
    peak,
    row_peak,
    prototype,
    partial,
    first,
    last,
    count,
    stride,
    each,
    inverse_epsilon,
    inverse_temperature,
    LIFT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    # ``features`` and ``mean`` are float16, [.., CHANNELS], and ``of_softmax`` and ``of_codes``
    # bring what they weigh to 0..1: float16 has TF32's ten bits and is multiplied twice as fast,
    # whatever dimension lies together. LIFT keeps small shares among its normal numbers.
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    is_column = column < count
    highest = tl.load(peak + column, mask=is_column, other=0.0)[None, :]
    scale = tl.load(prototype + column, mask=is_column, other=0.0)[None, :]
    gradient = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    start = first + split * each
    for at in range(start, tl.minimum(start + each, last), ROWS):
        row = at + tl.arange(0, ROWS)
        is_row = row < last
        found = tl.load(
            similarity + row.to(tl.int64)[:, None] * stride + column[None, :],
            mask=is_row[:, None],
            other=float("-inf"),
        )
        shift = tl.load(row_peak + row, mask=is_row, other=0.0)[:, None]
        share = tl.load(of_softmax + row, mask=is_row, other=0.0)[:, None] * LIFT
        said = tl.load(of_codes + row, mask=is_row, other=0.0)[:, None] * LIFT
        code = tl.exp((found - (highest + shift)) * inverse_epsilon) * scale * said
        soft = tl.exp(found * inverse_temperature) * share
        own = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        group = tl.load(of + row, mask=is_row, other=0)[:, None] * CHANNELS + channel[None, :]
        towards = tl.load(features + own, mask=is_row[:, None], other=0.0)
        away = -tl.load(mean + group, mask=is_row[:, None], other=0.0)
        gradient = tl.dot(tl.trans(soft.to(tl.float16)), towards, gradient)
        gradient = tl.dot(tl.trans(code.to(tl.float16)), away, gradient)
    at = (split * count + column).to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    tl.store(partial + at, gradient, mask=is_column[:, None])
