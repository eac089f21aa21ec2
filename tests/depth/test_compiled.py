"""Compiled parts of the training step, one graph each, agree with eager mode.

GPUs run the tensor versions; in double precision a CPU does too.
"""

from dataclasses import replace

import pytest
import torch

from cpcdr.depth.alignment import align
from cpcdr.depth.config import TINY
from cpcdr.depth.model import DepthModel
from cpcdr.depth.photometric import photometric_loss
from cpcdr.geometry import pose_matrix


def problem(height=48, width=64):
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    # Smooth, or alignment has no gradient.
    images = torch.nn.functional.interpolate(
        random(6, 3, height // 8, width // 8), size=(height, width), mode="bicubic"
    ).clamp(0, 1)
    target, sources = images[:2], images[2:].unflatten(0, (2, 2))
    disparities = 0.2 + 0.6 * random(2, 4, height, width)
    poses = pose_matrix(0.02 * random(2, 2, 3) - 0.01, 0.2 * random(2, 2, 3) - 0.1)
    camera = torch.tensor([[60.0, 60.0, 31.5, 23.5]] * 2, dtype=torch.float64)
    return target, sources, disparities, poses, camera


@pytest.mark.slow
def test_the_compiled_loss_and_its_gradient_agree():
    target, sources, disparities, poses, camera = problem()
    results, gradients = [], []
    for compiles in (False, True):
        leaf = disparities.clone().requires_grad_()
        result = photometric_loss(target, sources, leaf, poses, camera, compiles)
        result.loss.backward()
        results.append(result)
        gradients.append(leaf.grad)
    assert 0.05 < results[0].mask.double().mean() < 0.95
    for name, expected in vars(results[0]).items():
        torch.testing.assert_close(getattr(results[1], name), expected, msg=name)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.slow
def test_compiled_alignment_agrees():
    target, sources, disparities, poses, camera = problem()
    plain, compiled = (
        align(target, sources, disparities[:, 0], poses.requires_grad_(), camera, 2, compiles)
        for compiles in (False, True)
    )
    assert not torch.equal(plain, poses)
    torch.testing.assert_close(compiled, plain)


def test_compiling_changes_neither_results_nor_parameter_names():
    config = replace(TINY, channels=8, height=64, width=96, batch_size=2)
    torch.manual_seed(0)
    model = DepthModel(config)
    images = torch.rand(2, 3, 3, 64, 96)
    batch = {
        "images": images,
        "jittered": images,
        "intrinsics": torch.tensor([[80.0, 80.0, 47.5, 31.5]] * 2),
        "flipped": torch.zeros(2, dtype=torch.bool),
    }
    plain, names = model(batch), list(model.state_dict())
    graphs = []
    model.compile(backend=lambda graph, _: graphs.append(graph) or graph.forward)
    compiled = model(batch)
    assert model.compiles and len(graphs) >= 2, "both networks"
    torch.testing.assert_close(compiled, plain)
    assert list(model.state_dict()) == names
