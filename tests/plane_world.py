"""A street of five textured planes with exact depth and poses: a frame source for depth tests."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cpcdr.frames.frame import Frame, FrameRef
from cpcdr.runtime.errors import FrameError

# Planes n·x = d around a camera at the origin (x right, y down, z forward).
PLANES = (
    ((0.0, 1.0, 0.0), 1.5),  # road
    ((1.0, 0.0, 0.0), 4.0),  # right wall
    ((-1.0, 0.0, 0.0), 3.0),  # left wall
    ((0.0, 0.0, 1.0), 40.0),  # end of the street
)


@dataclass(frozen=True)
class PlaneWorld:
    """``sequences`` drives of ``length`` frames; ``speed`` metres per frame with slight yaw."""

    sequences: int = 1
    length: int = 12
    height: int = 64
    width: int = 128
    speed: float = 0.4
    broken: int = -1
    seed: int = 0
    spec: str = "planes:"
    protocol: str = ""
    intrinsics_note: str = "exact"

    @property
    def intrinsics(self) -> NDArray[np.float32]:
        f = 0.7 * self.width
        return np.array([f, f, (self.width - 1) / 2 + 3, (self.height - 1) / 2 - 2], np.float32)

    def refs(self) -> list[FrameRef]:
        return [FrameRef(f"s{s}", i) for s in range(self.sequences) for i in range(self.length)]

    def pose(self, ref: FrameRef) -> NDArray[np.float64]:
        """Camera to world."""
        yaw = 0.06 * np.sin(0.7 * ref.frame_index)
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(np.array([0.0, yaw, 0.0]))[0]
        pose[:3, 3] = [0.2 * np.sin(0.5 * ref.frame_index), 0, self.speed * ref.frame_index]
        return pose

    def read(self, ref: FrameRef) -> Frame:
        if ref.frame_index == self.broken:
            raise FrameError(f"{ref.frame_id} is broken: replace it.")
        pose = self.pose(ref)
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        fx, fy, cx, cy = self.intrinsics.astype(np.float64)
        rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones(u.shape)], -1) @ pose[:3, :3].T
        depth = np.full(u.shape, np.inf)
        for normal, distance in PLANES:
            with np.errstate(divide="ignore"):
                t = (distance - np.dot(pose[:3, 3], normal)) / (rays @ np.array(normal))
            depth = np.where((t > 0) & (t < depth), t, depth)
        points = pose[:3, 3] + rays * depth[..., None]
        image = self._texture(points, int(ref.sequence[1:]))
        encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        disparity = (1 / np.maximum(depth, 1)).astype(np.float32)
        return Frame(ref, encoded, image, self.intrinsics, self.spec, None, disparity, pose)

    def _texture(self, points: NDArray[np.float64], sequence: int) -> NDArray[np.uint8]:
        """Sums of plane waves in space, the finer ones fading with distance to avoid aliasing."""
        rng = np.random.default_rng([self.seed, sequence])
        colour = np.zeros(points.shape)
        for octave in range(5):
            for _ in range(4):
                wave = rng.normal(size=3) * 0.6 * 2**octave
                phase = points @ wave + rng.uniform(0, 2 * np.pi)
                fade = np.exp(-np.abs(points[..., 2:]) * 2**octave / 150)
                colour += 0.7**octave * rng.uniform(0.3, 1, 3) * np.sin(phase)[..., None] * fade
        return np.clip(128 + 40 * colour, 0, 255).astype(np.uint8)
