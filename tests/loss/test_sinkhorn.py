"""Sinkhorn codes: against a float64 transcription, and over two processes.

Run as a script, this file is one of those processes: ``test_sinkhorn.py FOLDER RANK``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from cpcdr.loss.config import LossConfig
from cpcdr.loss.sinkhorn import sinkhorn
from cpcdr.loss.swapped_prediction import Groups, swapped_prediction

SPLITS = [(40, 24), (63, 1), (64, 0)]
"""Samples of rank 0 and of rank 1."""


def cosine(samples: int, prototypes: int, seed: int = 0) -> torch.Tensor:
    """Cosine similarities of random features in clumps, as a network gives."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 16, generator=generator)
    which = torch.randint(0, 5, (samples,), generator=generator)
    noise = torch.randn(samples, 16, generator=generator)
    features = torch.nn.functional.normalize(centres[which] + 0.7 * noise, dim=1)
    directions = torch.randn(prototypes, 16, generator=generator)
    return features @ torch.nn.functional.normalize(directions, dim=1).t()


def transcription(similarity: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """SwAV's listing 1 word for word, in float64: Q is [K, S] and sums to 1."""
    q = np.exp(similarity.astype(np.float64).T / epsilon)
    q /= q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True)
        q /= prototypes
        q /= q.sum(axis=0, keepdims=True)
        q /= samples
    return (q * samples).T


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize(("samples", "prototypes"), [(1, 1), (1, 7), (300, 1), (200, 30), (10, 50)])
def test_equals_the_papers_listing(samples: int, prototypes: int, iterations: int) -> None:
    similarity = cosine(samples, prototypes)
    codes = sinkhorn(similarity, 0.05, iterations).numpy()
    expected = transcription(similarity.numpy(), 0.05, iterations)
    np.testing.assert_allclose(codes, expected, rtol=2e-5, atol=1e-7)


def test_rows_are_distributions_and_every_prototype_is_used_alike() -> None:
    codes = sinkhorn(cosine(600, 20), iterations=60)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(600))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((20,), 30.0), rtol=0.05, atol=0)
    three = sinkhorn(cosine(600, 20), iterations=3).sum(dim=0)
    assert three.min() > 0.5 * 30
    assert three.max() < 1.5 * 30


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0.005, 0.008, 0.012, 0.015, 0.05, 0.2]),
    st.integers(1, 300),
    st.integers(1, 120),
    st.integers(1, 6),
    st.floats(0.0, 3.0),
    st.integers(0, 10_000),
)
def test_codes_are_exact_for_any_epsilon(
    epsilon: float, samples: int, prototypes: int, iterations: int, noise: float, seed: int
) -> None:
    """Also where samples crowd around a few of the prototypes, which all others are far from."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(prototypes, 8, generator=generator))
    which = torch.randint(0, 1 + prototypes // 8, (samples,), generator=generator)
    blur = noise * torch.randn(samples, 8, generator=generator)
    features = torch.nn.functional.normalize(directions[which] + blur, dim=1)
    similarity = features @ directions.t()
    codes = sinkhorn(similarity, epsilon, iterations).numpy()
    expected = transcription(similarity.numpy(), epsilon, iterations)
    np.testing.assert_allclose(codes, expected, rtol=0, atol=2e-6)


def test_extreme_similarities_stay_finite() -> None:
    codes = sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, -1.0]]), iterations=3)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(3))


def test_half_precision_input_is_computed_in_float32() -> None:
    similarity = cosine(50, 10)
    codes = sinkhorn(similarity.bfloat16())
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes, sinkhorn(similarity.bfloat16().float()))


def test_no_samples_and_no_gradient() -> None:
    assert sinkhorn(torch.zeros(0, 5)).shape == (0, 5)
    similarity = cosine(5, 4).requires_grad_()
    assert not sinkhorn(similarity).requires_grad
    before = similarity.detach().clone()
    sinkhorn(similarity)
    assert torch.equal(similarity, before), "the input is left as it was"


def groups_of(group: torch.Tensor) -> Groups:
    """One part of samples that all count."""
    return Groups(group, torch.ones(len(group)), 32, (len(group),), (1.0,))


def worker(folder: Path, rank: int) -> None:
    """One of two processes: codes, loss and gradient of its part of each split."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results = []
    for split in SPLITS:
        start, size = rank * split[0], split[rank]
        codes = sinkhorn(cosine(64, 10)[start : start + size])
        features = cosine(64, 12, seed=1)[start : start + size].clone().requires_grad_()
        group = torch.arange(size) // 2
        prototypes = cosine(10, 12, seed=2).requires_grad_()
        loss, _, _ = swapped_prediction(features, prototypes, groups_of(group), LossConfig())
        loss.backward()
        sharp = sinkhorn(cosine(64, 10)[start : start + size], epsilon=0.005)
        results.append((codes, sharp, loss.detach(), prototypes.grad))
    torch.save(results, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_get_the_codes_of_one(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole, sharp = sinkhorn(cosine(64, 10)), sinkhorn(cosine(64, 10), epsilon=0.005)
    prototypes = cosine(10, 12, seed=2).requires_grad_()
    group = torch.arange(64) // 2
    features = cosine(64, 12, seed=1)
    together, _, _ = swapped_prediction(features, prototypes, groups_of(group), LossConfig())
    together.backward()
    for mine, others, split in zip(*ranks, SPLITS, strict=True):
        (first, low, loss, gradient), (second, high, other_loss, other_gradient) = mine, others
        torch.testing.assert_close(torch.cat([low, high]), sharp, rtol=0, atol=1e-6)
        if split[0] % 2 == 0:  # no group is cut: the mean over ranks is the loss of all samples
            torch.testing.assert_close((loss + other_loss) / 2, together.detach())
            torch.testing.assert_close((gradient + other_gradient) / 2, prototypes.grad)
        assert (len(first), len(second)) == split
        torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=1e-7)
        assert loss.isfinite()
        assert other_loss == 0 if split[1] == 0 else other_loss.isfinite()
    # The test would notice Sinkhorn that is not distributed.
    alone = torch.cat([sinkhorn(cosine(64, 10)[:40]), sinkhorn(cosine(64, 10)[40:])])
    assert (alone - whole).abs().max() > 1e-3


if __name__ == "__main__":
    worker(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # Gloo's threads may abort the exit of a process whose peer has left.
