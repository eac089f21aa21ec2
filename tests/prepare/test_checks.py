"""Checks of regions: constructed faults are named, with a remedy; good frames pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray

from cpcdr.commands.prepare import prepare
from cpcdr.frames import open_frames
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig
from cpcdr.runtime.tracking.store import tracking_uri

HEIGHT, WIDTH = 96, 192
STREET = f"synthetic:streets=2,frames=2,height={HEIGHT},width={WIDTH},seed=7"
ROWS, COLUMNS = np.indices((HEIGHT, WIDTH))
FAULTS = {
    "stripes along image rows cover 100 %": (ROWS // 4, "leave --regions.preset paper out"),
    "100 % of what separates regions is the image row": (ROWS // 12, "take another --depth"),
    "one region covers 96 %": (COLUMNS // 184, "lower --regions.separation"),
    "100 % of the image is too small": (ROWS // 3 * 64 + COLUMNS // 3, "--regions.min-superpixels"),
}


def settings(tmp_path: Path) -> PrepareConfig:
    return PrepareConfig(
        frames=STREET, out=tmp_path / "dataset", engine="local", tracking=TrackingConfig()
    )


def alarm(run_id: str) -> str | None:
    return MlflowClient(tracking_uri()).get_run(run_id).data.tags.get("cpcdr.alarm")


@pytest.mark.parametrize("sentence", FAULTS)
def test_faulty_regions_are_named_with_a_remedy_and_recorded(
    sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regions, remedy = FAULTS[sentence]
    config = replace(settings(tmp_path), region_maps=written(tmp_path / "maps", regions))
    done = prepare(config)
    warning = next(w for w in capsys.readouterr().out.splitlines() if sentence in w)
    assert warning.startswith("warning: ") and "in 4 of 4 checked frames" in warning
    assert remedy in warning
    recorded = alarm(done["run_id"])
    assert recorded is not None and warning.removeprefix("warning: ").rstrip(".") in recorded


def written(folder: Path, regions: NDArray[np.int64]) -> Path:
    """The same region map for every frame of the street."""
    for ref in open_frames(STREET).refs():
        path = folder / f"{ref.frame_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), regions.astype(np.uint16))
    return folder


def test_good_regions_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = prepare(settings(tmp_path))
    assert "warning" not in capsys.readouterr().out and alarm(done["run_id"]) is None
    run = MlflowClient(tracking_uri()).get_run(done["run_id"])
    assert 0 < run.data.metrics["checked_regions/largest"] < 0.5
    assert run.data.metrics["checked_regions/stripes"] < 0.15


def test_hopeless_regions_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    one = replace(settings(tmp_path), regions=RegionConfig(separation=1.0, bias=100.0))
    words = (
        "hopeless: one region covers 100 % .*lower --regions.separation, or .*--allow-poor-depth"
    )
    with pytest.raises(InputError, match=words):
        prepare(one)
    assert not list(tmp_path.glob("dataset*/data"))
    assert prepare(replace(one, allow_poor_depth=True))["regions_per_frame"] == 1
