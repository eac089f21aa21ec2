"""The camera geometry of every stage: pure functions on torch tensors, batched by broadcasting.

Conventions. Pixel centres lie at integer coordinates, so the image covers [-0.5, W - 0.5]. Cameras
are pinholes ``intrinsics [..., 4] = fx, fy, cx, cy`` in pixels, with x right, y down, z forward.
A pose ``[..., 4, 4]`` maps points of one camera's coordinates into another's. Depth z and
translations share one arbitrary unit; disparity is 1 / z.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cpcdr.runtime.device import constant

MIN_DISPARITY = 0.005
"""Lower limit of disparity: nothing is farther than 200 units."""


def pixel_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Viewing rays of all pixels by intrinsics [..., 4], scaled to z = 1.

    Returns:
        [..., 3, H, W]: ((u - cx) / fx, (v - cy) / fy, 1).
    """
    fx, fy, cx, cy = intrinsics[..., None].unbind(-2)
    u = torch.arange(width, device=intrinsics.device, dtype=intrinsics.dtype)
    v = torch.arange(height, device=intrinsics.device, dtype=intrinsics.dtype)
    shape = (*intrinsics.shape[:-1], height, width)
    x = ((u - cx) / fx)[..., None, :].expand(shape)
    y = ((v - cy) / fy)[..., :, None].expand(shape)
    return torch.stack([x, y, torch.ones_like(x)], dim=-3)


def _rotate(pose: Tensor, points: Tensor) -> Tensor:
    return torch.einsum("...ij,...jhw->...ihw", pose[..., :3, :3], points)


def project(points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project points to pixels.

    Args:
        points: [..., 3, H, W] in the camera's coordinates.
        intrinsics: [..., 4].

    Returns:
        pixels [..., H, W, 2] = (u, v), and [..., H, W] bool: the point is in front of the camera.
        Pixels of points behind it are finite but meaningless.
    """
    x, y, z = points.unbind(-3)
    fx, fy, cx, cy = intrinsics[..., None, None].unbind(-3)
    in_front = z > 1e-6
    z = z.clamp(min=1e-6)
    return torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1), in_front


def pose_matrix(axis_angle: Tensor, translation: Tensor) -> Tensor:
    """Rigid motion x -> R x + t (Rodrigues' formula), differentiable at the identity too.

    Args:
        axis_angle: [..., 3], rotation axis times angle in radians.
        translation: [..., 3].

    Returns:
        [..., 4, 4].
    """
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    # The small constant keeps the square root's gradient finite at zero rotation.
    angle = (axis_angle.square().sum(-1) + 1e-12).sqrt()[..., None, None]
    sine = torch.sinc(angle / torch.pi)  # sin(a) / a
    cosine = torch.sinc(angle / (2 * torch.pi)).square() / 2  # (1 - cos(a)) / a²
    eye = torch.eye(3, device=cross.device, dtype=cross.dtype)
    rotation = eye + sine * cross + cosine * (cross @ cross)
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    last = torch.eye(4, device=top.device, dtype=top.dtype)[3:]
    bottom = last.expand_as(top[..., :1, :])
    return torch.cat([top, bottom], dim=-2)


def invert_pose(pose: Tensor) -> Tensor:
    """The inverse of a rigid motion [..., 4, 4], by transposing its rotation."""
    rotation = pose[..., :3, :3].transpose(-1, -2)
    top = torch.cat([rotation, -rotation @ pose[..., :3, 3:]], dim=-1)
    return torch.cat([top, pose[..., 3:, :]], dim=-2)


def reproject(disparity: Tensor, pose: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Where a target camera's pixels lie in a source camera with the same intrinsics.

    Equals back-projecting 1 / disparity, transforming and projecting, divided by the depth: rotated
    rays depend on the pose alone and translation scales with disparity (plane and parallax), so
    several disparity maps share the rays and no depth is computed.

    Args:
        disparity: [..., H, W] of the target.
        pose: [..., 4, 4], target to source coordinates.
        intrinsics: [..., 4].

    Returns:
        pixels [..., H, W, 2] = (u, v) in the source and [..., H, W] bool: the pixel lies in front
        of the source camera and inside its image.
    """
    height, width = disparity.shape[-2:]
    rays = _rotate(pose, pixel_rays(intrinsics, height, width))
    points = rays + pose[..., :3, 3, None, None] * disparity.unsqueeze(-3)
    pixels, in_front = project(points, intrinsics)
    u, v = pixels.unbind(-1)
    inside = (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    return pixels, in_front & inside


def sample_pixels(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear samples of an image; outside it, the nearest border pixel.

    Args:
        image: [B, C, H, W].
        pixels: [B, h, w, 2] = (u, v), pixel centres at integers.

    Returns:
        [B, C, h, w].
    """
    height, width = image.shape[-2:]
    # align_corners=True puts -1 and +1 at the centres of the first and last pixel: our convention.
    grid = pixels * constant(pixels, 2 / max(width - 1, 1), 2 / max(height - 1, 1)) - 1
    return functional.grid_sample(
        image, grid, mode="bilinear", padding_mode="border", align_corners=True
    )
