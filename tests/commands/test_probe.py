"""The probe command, on a network that was never trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.commands.probe import probe
from cpcdr.evaluate.config import ProbeConfig
from cpcdr.runtime.errors import InputError
from cpcdr.runtime.tracking.config import TrackingConfig

FITTED = "synthetic:streets=2,frames=2,height=64,width=128,seed=7"
SCORED = "synthetic:streets=2,frames=1,height=64,width=128,seed=8"
PROBES = ("linear_ridge", "linear_sgd", "knn", "prototype_purity")


def settings(checkpoint: Path, frames: str = FITTED, evaluate: str = SCORED) -> ProbeConfig:
    return ProbeConfig(checkpoint, frames, evaluate, tracking=TrackingConfig("none"))


def camvid(root: Path, labels: list[int | None]) -> str:
    """A frame for each of ``labels``, which fill its label map; None: a file that is torn."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for i, label in enumerate(labels):
        image = np.random.default_rng(i).integers(0, 255, (64, 128, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"A_{i:03d}.png"), image)
        file = root / "labels" / f"A_{i:03d}.png"
        if label is None:
            file.write_bytes(b"torn")
        else:
            ids = np.full((64, 128), label, np.uint8)
            ids[:, ::2] = min(label, 11)
            cv2.imwrite(str(file), ids)
    return f"camvid:{root}"


def test_a_report_of_every_probe_on_both_networks(checkpoint: Path) -> None:
    result = probe(settings(checkpoint))
    assert result["protocol"] == "synthetic"
    for name in PROBES:
        assert 0 < result[name] <= 1
        # The checkpoint holds the very network that its training would have started from.
        assert result[name] == pytest.approx(result[f"untrained_{name}"])
    assert result["linear_sgd"] > 0.1 and result["prototype_purity"] > 0.3
    written = json.loads((checkpoint.parent / "probes.json").read_text())
    assert written == result


def test_frames_that_are_left_out_are_counted_and_said_once(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = camvid(tmp_path / "good", [0, 3, 5])
    mixed = camvid(tmp_path / "mixed", [0, None, 40, 11, 3])  # torn, no such id, void
    result = probe(settings(checkpoint, good, mixed))
    assert 0 <= result["knn"] <= 1
    printed = capsys.readouterr().out
    assert printed.count(f"{mixed}: 3 frames left out; first error: ") == 1
    assert "A_001.png" in printed and printed.count("left out") == 1


def test_nothing_to_fit_or_score_on_is_a_sentence(checkpoint: Path, tmp_path: Path) -> None:
    good, bad = camvid(tmp_path / "good", [0, 3]), camvid(tmp_path / "bad", [40, 11])
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(InputError, match=f"{bad}: no labelled frame.*A_000.png holds label"):
            probe(settings(checkpoint, *pair))
    with pytest.raises(InputError, match="probes need labels of one protocol"):
        probe(settings(checkpoint, good, SCORED))
    with pytest.raises(InputError, match="--size 7 9 is too small"):
        ProbeConfig(size=(7, 9))
    (checkpoint / "config.yaml").write_text("kind: pretrain\nconfig: {}\n")
    with pytest.raises(InputError, match=r"config\.yaml: lacks the frame size"):
        probe(settings(checkpoint))
