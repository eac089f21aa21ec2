"""Camera motion: from motions between frames to a trajectory, and its error against true poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SNIPPET = 5
"""Frames over which the error is measured (Zhou et al., CVPR 2017)."""

MONODEPTH2 = SNIPPET**-0.5
"""What our error over a snippet is multiplied by to compare it with published tables: Monodepth2's
evaluation (Godard et al., ICCV 2019) takes the root of the summed squares and then divides by the
number of frames, which is 1/sqrt(5) of the root mean square."""


def positions(motions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Positions of the cameras in the first one's coordinates.

    Args:
        motions: [N - 1, 4, 4], each maps points of a camera's coordinates into the next one's.

    Returns:
        [N, 3], beginning at the origin.
    """
    pose, found = np.eye(4), [np.zeros(3)]
    for motion in motions:
        pose = pose @ np.linalg.inv(motion)
        found.append(pose[:3, 3])
    return np.stack(found)


def true_positions(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same from camera-to-world poses [N, 4, 4]."""
    return (np.linalg.inv(poses[0]) @ poses)[:, :3, 3]


def trajectory_error(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Absolute trajectory error: root mean square distance after fitting the scale, in metres.

    Args:
        predicted, truth: positions [N, 3] that begin at the origin.
    """
    scale = float((predicted * truth).sum() / max(float((predicted**2).sum()), 1e-12))
    return float(np.sqrt(((scale * predicted - truth) ** 2).sum(axis=1).mean()))


def snippet_errors(
    motions: NDArray[np.floating], poses: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors over every snippet of five frames: of the prediction, and of driving straight ahead.

    The guess is a camera that moves forward at constant speed, scaled as the prediction is.

    Args:
        motions: predicted [N - 1, 4, 4].
        poses: true camera-to-world [N, 4, 4].

    Returns:
        two arrays [N - 4]; empty where there are fewer than five frames.
    """
    straight = np.zeros((SNIPPET, 3))
    straight[:, 2] = np.arange(SNIPPET)
    errors, guesses = [], []
    for start in range(len(poses) - SNIPPET + 1):
        truth = true_positions(poses[start : start + SNIPPET])
        way = positions(motions[start : start + SNIPPET - 1])
        errors.append(trajectory_error(way, truth))
        guesses.append(trajectory_error(straight, truth))
    return np.array(errors), np.array(guesses)
