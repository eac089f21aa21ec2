"""The decoding benchmark: both readers over both clips, in order and by blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.commands.benchmark import benchmark
from cpcdr.commands.benchmarks import decode
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.runtime.errors import InputError


def test_every_clip_is_timed_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_FRAMES", 70)
    monkeypatch.setattr(decode, "_SIZE", (96, 128))
    own = decode._write_clip(tmp_path / "own.mp4")
    result = benchmark(BenchmarkConfig("decode", repeats=1, video=own))
    assert set(result["clips"]) == {"1080p", "own"}
    for clip in result["clips"].values():
        assert set(clip) == {
            *("in_order", "opencv_in_order", "in_order_ratio"),
            *("blocks", "opencv_blocks", "blocks_ratio"),
        }
        assert min(clip.values()) > 0
    assert result["ratio"] == pytest.approx(result["clips"]["1080p"]["in_order_ratio"], rel=0.02)
    with pytest.raises(InputError, match=r"gone\.mp4 does not exist"):
        benchmark(BenchmarkConfig("decode", repeats=1, video=tmp_path / "gone.mp4"))
