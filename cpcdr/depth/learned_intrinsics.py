"""Intrinsics learned from video: one focal length and principal point for a whole training set.

To first order, pixels move by focal length · rotation and by focal length · translation / depth, so
focal length and motion are ambiguous: only the larger rotational flow at the image border separates
them. Motions are therefore parametrised such that the image motion stays constant when the focal
length changes, and only rotating frames contribute gradients: elsewhere noise would dominate.
"""

import math

import torch
from torch import Tensor, nn

from cpcdr.geometry import pose_matrix

ASSUMED = 0.5 / math.tan(math.radians(30))
"""Initial focal length in image widths: a horizontal field of view of 60°."""
MIN_ROTATION = 0.01
"""Least rotation about the vertical axis, in radians, that constrains the focal length: eight times
the error of aligned motions, a gentle bend at ten frames per second."""


class LearnedIntrinsics(nn.Module):
    """A camera with square pixels, in fractions of the image size: images can be of any size."""

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

    def compensation(self, log_focal: Tensor | float) -> Tensor:
        """Factors [3] on rotations about x, y, z and translations along them that preserve the
        image motion of another focal length."""
        ratio = (log_focal - self.log_focal).exp()
        return torch.stack([ratio, ratio, torch.ones_like(ratio)])

    def gate_gradients(self, poses: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """The same motions [F, B, 4, 4] and camera [B, 4]; only rotating frames pass gradients to
        the focal length.

        Aligned motions minimise a different loss than the photometric one. Its derivative with
        respect to rotation is not zero there and must not reach the focal length.
        """
        rotating = self.rotating(poses)
        detached = torch.cat([camera[:, :2].detach(), camera[:, 2:]], dim=1)
        return (
            torch.where(rotating[:, None, None], self._compensated(poses), poses),
            torch.where(rotating[:, None], camera, detached),
        )

    @staticmethod
    def rotating(poses: Tensor) -> Tensor:
        """[B] bool: the motions [F, B, 4, 4] rotate enough to constrain the focal length."""
        return (poses[..., 0, 2].abs() > MIN_ROTATION).any(dim=0)

    def _compensated(self, poses: Tensor) -> Tensor:
        factors = self.compensation(self.log_focal.detach())
        skew = (poses[..., :3, :3] - poses[..., :3, :3].transpose(-1, -2)) / 2
        axis_angle = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
        rotated = poses @ pose_matrix(axis_angle * (factors - 1), torch.zeros_like(axis_angle))
        moved = (poses[..., :3, 3] * factors)[..., None]
        top = torch.cat([rotated[..., :3, :3], moved], dim=-1)
        return torch.cat([top, poses[..., 3:, :]], dim=-2)
