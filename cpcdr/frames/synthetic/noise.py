"""Procedural patterns in metres, each faded out where a sample is larger than its detail.

Patterns finer than a sample would flicker from frame to frame and break photometric consistency, so
every function takes the sample's footprint in metres.
"""

import math

import numpy as np
from numba import njit

kernel = njit(cache=True, fastmath=True, nogil=True)
"""Compiles a function once per machine; it releases the GIL."""

_SIZE = 64
_TABLE = np.random.Generator(np.random.Philox(2211)).random((_SIZE, _SIZE), dtype=np.float32)


@kernel
def cell(i, j):
    """A fixed random value in [0, 1) for an integer cell; repeats every 64 cells."""
    return _TABLE[(i + (j >> 6) * 23) & 63, (j + (i >> 6) * 41) & 63]


@kernel
def noise2(x, y):
    """Value noise in [0, 1] with unit wavelength."""
    i, j = math.floor(x), math.floor(y)
    a, b = x - i, y - j
    a = a * a * (3.0 - 2.0 * a)
    b = b * b * (3.0 - 2.0 * b)
    i0, j0 = int(i) & 63, int(j) & 63
    i1, j1 = (i0 + 1) & 63, (j0 + 1) & 63
    top = _TABLE[i0, j0] * (1.0 - a) + _TABLE[i1, j0] * a
    low = _TABLE[i0, j1] * (1.0 - a) + _TABLE[i1, j1] * a
    return top * (1.0 - b) + low * b


@kernel
def noise3(x, y, z):
    """Value noise in [0, 1] in a volume: two slices of the plane's noise, blended."""
    k = math.floor(z)
    c = z - k
    c = c * c * (3.0 - 2.0 * c)
    low = noise2(x + 37.0 * k, y + 17.0 * k)
    return low * (1.0 - c) + noise2(x + 37.0 * (k + 1.0), y + 17.0 * (k + 1.0)) * c


@kernel
def visible(wavelength, footprint):
    """Fraction of a detail's contrast that a sample of this footprint resolves, in [0, 1]."""
    return min(1.0, max(0.0, 0.5 * (wavelength / footprint - 1.0)))


@kernel
def grain(x, y, wavelength, footprint):
    """Zero-mean noise in [-0.5, 0.5] of a wavelength in metres."""
    shown = visible(wavelength, footprint)
    if shown == 0.0:
        return 0.0
    return shown * (noise2(x / wavelength, y / wavelength) - 0.5)


@kernel
def band(distance, half_width, footprint):
    """Anti-aliased coverage of a sample by a band |distance| < half_width, all in metres."""
    return min(1.0, max(0.0, (half_width - abs(distance)) / footprint + 0.5))


@kernel
def lines(x, period, half_width, footprint):
    """Anti-aliased coverage by lines at the multiples of a period, all in metres."""
    shown = visible(period, footprint)
    mean = 2.0 * half_width / period
    if shown == 0.0:
        return mean
    offset = x - period * math.floor(x / period + 0.5)
    return shown * band(offset, half_width, footprint) + (1.0 - shown) * mean
