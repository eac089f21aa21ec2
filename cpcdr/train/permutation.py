"""Permutations that are evaluated where they are asked, for ranges that no array should hold.

A few Feistel rounds, with a mixing function as that of SplitMix64 (Steele, Lea and Flood, 2014),
are a bijection of the numbers below a power of four. Numbers that leave the range are mapped again
until they are back in it, which keeps it a bijection (cycle walking: Black and Rogaway, 2002).
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
_U = np.uint64


def permuted(numbers: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where permutations of 0..size-1 take numbers.

    Args:
        numbers: int64 [N], each in 0..size-1.
        keys: uint64 [P, ROUNDS], which each choose a permutation.

    Returns:
        int64 [N, P], in 0..size-1.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    key = np.broadcast_to(keys, (len(numbers), *keys.shape)).reshape(-1, ROUNDS)
    value = np.repeat(numbers.astype(_U), len(keys))
    astray = np.arange(len(value))
    while len(astray):
        value[astray] = _rounds(value[astray], half, key[astray])
        astray = astray[value[astray] >= size]
    return value.astype(np.int64).reshape(len(numbers), len(keys))


def _rounds(value: NDArray[_U], half: int, key: NDArray[_U]) -> NDArray[_U]:
    """A bijection of the numbers of ``2 * half`` bits."""
    low = _U((1 << half) - 1)
    left, right = value >> _U(half), value & low
    for number in range(ROUNDS):
        left, right = right, left ^ (_mixed(right + key[:, number]) & low)
    return left << _U(half) | right


def _mixed(z: NDArray[_U]) -> NDArray[_U]:
    z = (z ^ (z >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> _U(27))) * _U(0x94D049BB133111EB)
    return z ^ (z >> _U(31))
