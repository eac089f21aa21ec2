"""Triton kernels of `cpcdr.loss.fused_products`, by the names there; matrices lie row by row.

A launch works on the samples from ``first`` to ``last``, exclusive: a part of the batch. Rows of
similarities are ``stride`` long, a multiple of every tile's width and of 16, so that a thread reads
several at once: those beyond the last prototype, and of samples beyond the last, are minus
infinity, whose exponentials are 0. Stored are float32, or 16 bits: multiples of 1 / 32767.

Samples of weight 0 mostly fill up the end of a part: programs that have no others skip them.
"""

# Parameters of kernels are pointers, numbers and compile-time constants: Triton's own types.
# mypy: disable-error-code="no-untyped-def, no-any-return, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def _read(at, mask):
    """Similarities as float32."""
    if at.dtype.element_ty == tl.int16:
        stored = tl.load(at, mask=mask, other=-32768)
        known = tl.where(stored == -32768, float("-inf"), stored.to(tl.float32) * (1.0 / 32767.0))
    else:
        known = tl.load(at, mask=mask, other=float("-inf"))
    return known


@triton.jit
def _write(at, similarity, mask):
    if at.dtype.element_ty == tl.int16:
        steps = tl.floor(tl.minimum(tl.maximum(similarity, -1.0), 1.0) * 32767.0 + 0.5)
        steps = tl.where(similarity == float("-inf"), -32768.0, steps)
        tl.store(at, steps.to(tl.int16), mask=mask)
    else:
        tl.store(at, similarity, mask=mask)


@triton.jit
def _any_counts(weight, first, last):
    """Whether a sample from ``first`` to ``last`` has a weight, or none that is a number."""
    total = tl.zeros([512], tl.float32)
    for start in range(first, last, 512):
        row = start + tl.arange(0, 512)
        total += tl.load(weight + row, mask=row < last, other=0.0)
    return tl.sum(total) != 0.0


@triton.jit
def halves_kernel(values, high, low, count, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    row, channel = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, CHANNELS)
    is_row = (row < count)[:, None]
    at = row.to(tl.int64)[:, None]
    inside = is_row & (channel < channels)[None, :]
    value = tl.load(values + at * channels + channel[None, :], mask=inside, other=0.0)
    half = value.to(tl.float16)
    to = at * CHANNELS + channel[None, :]
    tl.store(high + to, half, mask=is_row)
    tl.store(low + to, (value - half.to(tl.float32)).to(tl.float16), mask=is_row)


@triton.jit
def similarity_kernel(
    high,
    low,
    prototypes_high,
    prototypes_low,
    weight,
    similarity,
    partial,
    first,
    last,
    count,
    stride,
    inverse_epsilon,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    # Each value is the sum of two of float16, [.., CHANNELS]: of their products all but the
    # smallest, as exact as float32 and twice as fast as in parts of TF32.
    # Programs of the same samples follow each other: the features stay in the cache.
    block = tl.program_id(1)
    row = first + block * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = (row < last)[:, None], (column < count)[None, :]
    counted = tl.load(weight + row, mask=row < last, other=0.0)[:, None]
    found = tl.zeros([ROWS, COLUMNS], tl.float32)
    if tl.sum(counted) != 0.0:
        for start in range(0, CHANNELS, INNER):
            inner = start + tl.arange(0, INNER)
            own = row.to(tl.int64)[:, None] * CHANNELS + inner[None, :]
            across = column[None, :] * CHANNELS + inner[:, None]
            left = tl.load(high + own, mask=is_row, other=0.0)
            right = tl.load(prototypes_high + across, mask=is_column, other=0.0)
            right_rest = tl.load(prototypes_low + across, mask=is_column, other=0.0)
            found = tl.dot(left, right, found)
            found = tl.dot(left, right_rest, found)
            found = tl.dot(tl.load(low + own, mask=is_row, other=0.0), right, found)
    at = row.to(tl.int64)[:, None] * stride + column[None, :]
    _write(similarity + at, tl.where(is_column, found, float("-inf")), is_row)
    if WIDE:
        result = tl.sum(counted * tl.exp((found - 1.0) * inverse_epsilon), axis=0)
    else:
        result = tl.max(tl.where(counted > 0, found, -1.0), axis=0)
    tl.store(partial + block.to(tl.int64) * count + column, result, mask=column < count)


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
    end = tl.minimum(start + each, last)
    if not FIRST:
        end = tl.where(_any_counts(weight, start, end), end, start)
    for at in tl.range(start, end, ROWS, num_stages=3):
        row = at + tl.arange(0, ROWS)
        is_row = row < last
        stored = similarity + row.to(tl.int64)[:, None] * stride + column[None, :]
        found = _read(stored, is_row[:, None] & inside)
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
    weight,
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
    counted = tl.sum(tl.load(weight + row, mask=is_row, other=0.0))
    for start in range(0, tl.where(counted != 0.0, stride, 0), COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        is_column = column < count
        at = row.to(tl.int64)[:, None] * stride + column[None, :]
        found = _read(similarity + at, is_row[:, None])
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
    soft_total = tl.where(soft_total != 0.0, soft_total, 1.0)
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
    end = tl.minimum(start + each, last)
    for at in range(start, tl.where(_any_counts(of_softmax, start, end), end, start), ROWS):
        row = at + tl.arange(0, ROWS)
        is_row = row < last
        stored = similarity + row.to(tl.int64)[:, None] * stride + column[None, :]
        found = _read(stored, is_row[:, None])
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
