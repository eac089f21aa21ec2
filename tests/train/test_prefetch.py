"""Reading ahead: order, errors, an early end."""

import threading
import time

import pytest
import torch

from cpcdr.train.prefetch import one_ahead, prefetch


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_everything_comes_in_order(readers: int, count: int) -> None:
    def read(step: int) -> int:
        time.sleep(0.002 * (step % 3))  # later ones overtake
        return step * step

    assert list(prefetch(read, range(5, 5 + count), readers)) == [
        s * s for s in range(5, 5 + count)
    ]


def test_readers_work_side_by_side() -> None:
    both = threading.Barrier(2)

    def read(step: int) -> int:
        both.wait(timeout=20)  # one reader alone would wait for ever
        return step

    assert list(prefetch(read, range(4), readers=2)) == [0, 1, 2, 3]


def test_an_error_comes_at_its_step() -> None:
    def read(step: int) -> int:
        if step == 3:
            raise ValueError("frame 3")
        return step

    seen = []
    with pytest.raises(ValueError, match="frame 3"):
        for value in prefetch(read, range(10)):
            seen.append(value)
    assert seen == [0, 1, 2]


def test_whoever_stops_early_leaves_no_thread_and_no_reading_behind() -> None:
    read: list[int] = []
    stream = prefetch(lambda step: read.append(step), range(1000), readers=2)
    next(stream)
    stream.close()
    assert len(read) < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_what_is_made_ahead_comes_in_order(device: str, count: int) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    def make(number: int) -> dict[str, torch.Tensor]:
        return {"x": torch.full((1000,), float(number), device=device).cumsum(0)}

    made = [m["x"][-1].item() for m in one_ahead(make, range(count), torch.device(device))]
    assert made == [1000.0 * number for number in range(count)]
