"""Values on a device: where they are made, and that compiling happens once."""

import torch

from cpcdr.runtime.device import (
    compiled,
    constant,
    default_device,
    move,
    move_together,
    pack,
    to_unit_float,
    unpack,
)


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


def test_images_become_fractions_with_channels_before_pixels():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 2, 4, 32)[..., :3]
    floats = to_unit_float(images)
    assert floats.shape == (1, 3, 2, 4) and floats.dtype == torch.float32
    assert torch.equal(floats[0, 1], images[0, ..., 1].float() / 255)
    assert torch.equal(to_unit_float(images[0]), floats[0])


def test_the_device_is_the_gpu_where_there_is_one():
    assert default_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_tensors_of_any_type_travel_in_one_buffer():
    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randint(0, 255, (7,), dtype=torch.uint8, generator=generator),
        torch.rand(3, 5, 2, dtype=torch.float64, generator=generator),
        torch.zeros(0, 4, dtype=torch.int32),
        torch.rand(4, 6, generator=generator).t(),  # not contiguous
        torch.tensor(3),
        torch.tensor([True, False, True]),
    ]
    buffer = pack(values)
    assert buffer.dtype == torch.uint8
    assert len(buffer) < sum(value.nbytes for value in values) + 16 * len(values)
    for value, back in zip(values, unpack(buffer, values), strict=True):
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        assert torch.equal(back, value)
        assert back.numel() == 0 or back.data_ptr() % 16 == buffer.data_ptr() % 16
    assert all(torch.equal(a, b) for a, b in zip(move_together(values, "cpu"), values, strict=True))
