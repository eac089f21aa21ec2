"""A step's kernels and bytes, counted without a GPU, do not grow; the counting itself is right."""

from dataclasses import replace

import pytest
import torch

from cpcdr.commands.benchmarks.count import Count, Device
from cpcdr.commands.benchmarks.step_parts import count_step, time_parts
from cpcdr.loss.config import LossConfig
from cpcdr.loss.swapped_prediction import Groups, swapped_prediction
from cpcdr.train.config import PretrainConfig

SAMPLES = 5500
"""Of the step below: 2.5 places of each of 4 x 250 pixel points, and 4 x 750 region points."""

MOST_KERNELS = {
    "compositor": 22,
    "network forward": 340,
    "loss forward": 134,
    "loss backward": 9,
    "network backward": 365,
    "optimiser": 17,
}


def counted(prototypes):
    config = PretrainConfig.presets()["paper"]
    loss = replace(config.loss, pixel_points=250, region_points=750)
    model = replace(config.model, prototypes=prototypes)
    config = replace(config, frames_per_item=2, loss=loss, model=model)
    return count_step(config, (96, 192), Device())


@pytest.fixture(scope="module")
def parts():
    return counted(100)


def test_no_part_launches_more_kernels_than_it_did(parts):
    assert list(parts) == list(MOST_KERNELS)
    for name, most in MOST_KERNELS.items():
        assert 0.8 * most < parts[name].kernels <= most, name


def test_the_loss_reads_and_writes_samples_by_prototypes_few_times(parts):
    more = counted(1100)
    for name, most in (("loss forward", 3), ("loss backward", 0.1)):
        times = (more[name].bytes - parts[name].bytes) / (4 * SAMPLES * 1000)
        assert times < most, name


def test_every_part_is_timed_on_a_device(parts):
    small = PretrainConfig.presets()["small"]
    seconds = time_parts(replace(small, frames_per_item=2), (96, 192), torch.device("cpu"), 1)
    assert list(seconds) == list(parts)
    assert min(seconds.values()) > 0
    assert seconds["network backward"] > seconds["optimiser"]


def test_products_of_our_own_kernels_are_counted():
    count = Count(Device(bandwidth=1e30, launch=0))
    features, prototypes = (torch.empty(n, 16, device="meta") for n in (400, 128))
    groups = Groups(torch.zeros(400, device="meta").long(), features[:, 0], 9, (400,), (1.0,))
    with count.part("loss"), torch.no_grad():
        swapped_prediction(features, prototypes, groups, LossConfig())
    product = 2 * 400 * 128 * 16
    expected = 3 * product / Device().half + 2 * product / Device().tf32
    assert count.parts["loss"].seconds == pytest.approx(expected)


def test_time_is_the_longest_of_launch_memory_and_products():
    square = torch.rand(1000, 1000, device="meta")
    for device, expected in (
        (Device(bandwidth=1e9, launch=0, single=1e30), 8e6 / 1e9),
        (Device(bandwidth=1e30, launch=3.0, single=1e30), 3.0),
        (Device(bandwidth=1e30, launch=0, single=1e9), 2.0),
    ):
        count = Count(device)
        with count.part("product"):
            square @ square
        assert count.parts["product"].seconds == pytest.approx(expected)
        assert (count.parts["product"].kernels, count.parts["product"].bytes) == (1, 8_000_000)


def test_views_are_free_and_expanded_values_are_read_once():
    count = Count(Device())
    row = torch.rand(1, 100, device="meta")
    with count.part("view"):
        row.expand(50, 100).t().unsqueeze(0)
    assert count.parts["view"].kernels == 0
    with count.part("sum"):
        row.expand(50, 100) + 1.0
    assert count.parts["sum"].bytes == 400 + 50 * 400


def test_what_would_wait_raises():
    values = torch.rand(10, device="meta")
    count = Count(Device())
    with count.part("waits"), pytest.raises((NotImplementedError, RuntimeError)):
        values[values > 0.5]
