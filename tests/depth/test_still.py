"""What is fixed to the camera is found in what passes by."""

from __future__ import annotations

import cv2
import numpy as np

from cpcdr.depth.still import FEWEST, still_pixels


def drive(count: int, overlay: bool = True, moves: bool = True) -> list[np.ndarray]:
    """Frames that look at noise passing by, with a clock burnt into the upper left."""
    rng = np.random.default_rng(0)
    world = cv2.GaussianBlur(rng.uniform(0, 255, (96, 192 + 40 * count, 3)), (0, 0), 1.5)
    world = np.clip(128 + 3 * (world - 128), 0, 255)
    frames = []
    for i in range(count):
        start = 40 * i if moves else 0
        frame = np.ascontiguousarray(world[:, start : start + 192]).astype(np.uint8)
        if overlay:
            cv2.rectangle(frame, (8, 8), (72, 28), (0, 0, 0), -1)
            cv2.putText(frame, "12:34", (12, 24), cv2.FONT_HERSHEY_PLAIN, 1.0, (255, 255, 255))
        frames.append(frame)
    return frames


def test_an_overlay_stands_still_and_the_world_does_not() -> None:
    still = still_pixels(drive(16))
    assert still[10:24, 12:60].mean() > 0.9
    still[0:36, 0:82] = False
    assert still.mean() < 0.01


def test_nothing_stands_still_in_a_plain_drive_in_few_frames_or_when_parked() -> None:
    assert still_pixels(drive(16, overlay=False)).mean() < 0.01
    assert not still_pixels(drive(FEWEST - 1)).any()
    assert not still_pixels(drive(16, moves=False)).any(), "a parked car tells nothing"
