"""Values on a device: where they are made, and that compiling happens once."""

import torch

from cpcdr.runtime.device import compiled, constant, move


def test_a_constant_takes_type_and_device_of_what_it_is_like():
    like = torch.zeros(4, 3, dtype=torch.float64)
    assert torch.equal(constant(like, 1.5, -2.0), torch.tensor([1.5, -2.0], dtype=torch.float64))
    assert constant(torch.zeros(2, device="meta"), 1.0).device.type == "meta"


def test_moving_to_where_values_are_copies_nothing():
    values = torch.rand(5)
    assert move(values, "cpu") is values
    assert move(values, torch.device("meta")).device.type == "meta"


def test_a_function_is_compiled_once_in_a_process():
    assert compiled(torch.sin) is compiled(torch.sin)
