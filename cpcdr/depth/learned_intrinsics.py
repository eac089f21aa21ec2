"""Intrinsics that nobody gave: one focal length and principal point for all frames of a training.

Pixels move by focal length · angle and focal length · step / depth to first order, whatever the
focal length is: only how much more the border turns than the centre does tells it apart from the
size of motions. So motions are written such that they move pixels as far as before when the focal
length changes, and only frames that turn are asked: elsewhere, noise in motions would answer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cpcdr.geometry import pose_matrix

ASSUMED = 0.5 / math.tan(math.radians(30))
"""Focal length in image widths, to begin with: a horizontal field of view of 60°."""
TURN = 0.01
"""Radians of a turn about the vertical axis that says something: eight times the error of aligned
motions, a slow bend at ten frames a second."""


class LearnedIntrinsics(nn.Module):
    """Square pixels; sizes are shares of the image's, so that images can be of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.log_focal = nn.Parameter(torch.tensor(math.log(ASSUMED)))
        self.principal_point = nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor, flipped: Tensor) -> Tensor:
        """Intrinsics [B, 4] of images [B, ..., H, W], some of them flipped [B]."""
        height, width = images.shape[-2:]
        focal = (width * self.log_focal.exp()).expand(len(images))
        side = torch.where(flipped, -1.0, 1.0)
        cx = (width - 1) / 2 + side * width * self.principal_point[0]
        cy = ((height - 1) / 2 + height * self.principal_point[1]).expand_as(cx)
        return torch.stack([focal, focal, cx, cy], dim=1)

    def off_centre(self) -> Tensor:
        """Squared distance of the principal point from the centre, in image sizes: a scalar."""
        return self.principal_point.square().sum()

    def across(self, log_focal: Tensor | float) -> Tensor:
        """[3]: factors of turns about x, y, z, and of steps along them, under which pixels move as
        far as they did with another focal length."""
        shorter = (log_focal - self.log_focal).exp()
        return torch.stack([shorter, shorter, torch.ones_like(shorter)])

    def hear(self, poses: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Aligned motions [F, B, 4, 4] and the camera [B, 4] as they are, but with gradients for
        the focal length only from frames that turn, and true ones.

        Aligned motions are the best for another loss than the photometric one: at them, its
        derivative for a turn is not zero, and must not be taken for one for the focal length.
        """
        turns = self.turns(poses)
        still = torch.cat([camera[:, :2].detach(), camera[:, 2:]], dim=1)
        return (
            torch.where(turns[:, None, None], self._follow(poses), poses),
            torch.where(turns[:, None], camera, still),
        )

    @staticmethod
    def turns(poses: Tensor) -> Tensor:
        """[B] bool: which of the motions [F, B, 4, 4] turn enough to tell of a focal length."""
        return (poses[..., 0, 2].abs() > TURN).any(dim=0)

    def _follow(self, poses: Tensor) -> Tensor:
        across = self.across(self.log_focal.detach())
        skew = (poses[..., :3, :3] - poses[..., :3, :3].transpose(-1, -2)) / 2
        turn = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
        rotated = poses @ pose_matrix(turn * (across - 1), torch.zeros_like(turn))
        moved = (poses[..., :3, 3] * across)[..., None]
        top = torch.cat([rotated[..., :3, :3], moved], dim=-1)
        return torch.cat([top, poses[..., 3:, :]], dim=-2)
