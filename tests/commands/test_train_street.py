"""The command train_street: weights that open, a picture, resuming, another configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cpcdr.commands.train_street import train_street
from cpcdr.depth.config import StreetConfig
from cpcdr.depth.sources import open_depth
from cpcdr.frames import open_frames
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.train.config import EngineConfig, TrainConfig, TrainStreetConfig


@pytest.mark.slow
def test_it_writes_weights_that_prepare_takes_and_resumes(tmp_path: Path) -> None:
    config = TrainStreetConfig(
        out=tmp_path / "street",
        street=StreetConfig(16, shots=8, batch_size=2),
        train=TrainConfig(steps=2, optimizer="adamw", lr=1e-3, log_every=1),
        engine=EngineConfig(engine="local"),
        tracking=TrackingConfig(tracking="none"),
    )
    first = train_street(config)
    assert first["steps"] == 2 and first["abs_rel"] > 0 and 0 <= first["delta1"] <= 1
    assert (tmp_path / "street" / "street.png").is_file()
    weights = Path(first["weights"]).read_bytes()
    frames = open_frames("synthetic:streets=1,frames=1,height=64,width=128")
    frame = frames.read(frames.refs()[0])
    (disparity,) = open_depth(f"street:{first['weights']}")([frame])
    assert disparity.shape == frame.image.shape[:2]
    Path(first["weights"]).unlink()
    assert train_street(config) | {"seconds": 0} == first | {"seconds": 0}
    assert Path(first["weights"]).read_bytes() == weights
    with pytest.raises(InputError, match=r"--out"):
        train_street(replace(config, seed=1))
