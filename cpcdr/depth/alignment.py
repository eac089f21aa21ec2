"""Direct image alignment: the camera motion under which two frames look most alike, given depth.

What a pose network says after a few thousand steps is a few pixels off, and depth learned from
views that are a few pixels off is wrong where it is far. Given a disparity map, six numbers are all
there is to find, and Gauss-Newton finds them in a few steps: so motions are as good as the depth
is, from the first steps on (Wang et al., "Learning Depth from Monocular Videos using Direct
Methods", CVPR 2018, arXiv 1712.00175).

Steps are inverse compositional (Baker & Matthews 2004): the target's gradients stand in for those
of the view, so that Jacobians are made once a level. Shape letters besides the usual ones: F source
frames (previous, next), P pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cpcdr.depth.augment import LUMA
from cpcdr.geometry import invert_pose, pixel_rays, pose_matrix, reproject, sample_pixels
from cpcdr.runtime.device import compiled

_COARSEST = 24
"""Rows of the smallest images that are aligned: there, a pose network is off by a pixel or so."""
_NOISE = 0.02
"""Standard deviation of grey values (of 1) where depth is true."""
_DEPTH_ERROR = 0.8
"""Standard deviation of the logarithm of depth, while it is learned: what is near is known to some
pixels only, and hardly tells of turns."""
_CAUCHY = 1.5
"""Standard deviations beyond which a residual counts for less: cars that drive, what is hidden."""
SPREAD = (_NOISE**2, _DEPTH_ERROR**2, _CAUCHY**2)
"""The three as variances."""
_DAMPING = 1e-3


class NormalEquations(NamedTuple):
    """Least squares of grey residuals, reweighted by Cauchy's robust function, for each pose.

    Attributes:
        hessian: [F, B, 7, 7].
        gradient: [F, B, 7].
        cost: [F, B], mean of log(1 + (residual / (1.5 standard deviations))²) over the pixels
            that are seen; infinite where hardly any is.
    """

    hessian: Tensor
    gradient: Tensor
    cost: Tensor


@torch.no_grad()
def align(
    target: Tensor,
    sources: Tensor,
    disparity: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
    steps: int = 3,
    compiles: bool = False,
) -> Tensor:
    """Poses improved until the sources, seen from the target, look like it. Without gradients.

    Args:
        target: [B, 3, H, W] in [0, 1].
        sources: [F, B, 3, H, W].
        disparity: [B, H, W] of the target.
        poses: [F, B, 4, 4], target to source coordinates, to begin with.
        intrinsics: [B, 4].
        steps: Gauss-Newton steps at each size of the images.
        compiles: by ``torch.compile``, where there are no kernels of ours.

    Returns:
        [F, B, 4, 4]. A pose that no step makes better at a size comes out of it as it went in.
    """
    # A graph that is compiled is another one for tensors with gradients.
    disparity, poses, intrinsics = disparity.detach(), poses.detach(), intrinsics.detach()
    grey_target, grey_sources = _grey(target), _grey(sources.flatten(0, 1))
    for factor in shrinkings(target.shape[2]):
        camera = torch.cat(
            [intrinsics[:, :2] / factor, (intrinsics[:, 2:] + 0.5) / factor - 0.5], dim=1
        )
        level = _Level(
            functional.avg_pool2d(grey_target, factor),
            functional.avg_pool2d(grey_sources, factor),
            functional.avg_pool2d(disparity[:, None], factor)[:, 0],
            camera,
            compiles,
        )
        poses = level.align(poses, steps)
    return poses


def shrinkings(height: int) -> list[int]:
    """Powers of two by which images are shrunk, coarse to fine: the last is 1."""
    powers = max(0, (height // _COARSEST).bit_length() - 1)
    return [1 << power for power in range(powers, -1, -1)]


def motion_gap(poses: Tensor, aligned: Tensor) -> Tensor:
    """How far poses [..., 4, 4] are from others, on average: a scalar with gradient for the first.

    The error of a translation is a share of its length; one of 0.07 radians counts as much as all
    of it.
    """
    gap = poses - aligned
    length = aligned[..., :3, 3].norm(dim=-1).clamp_min(0.1)
    # The small constant keeps the square root's gradient finite where there is no gap.
    turn = (gap[..., :3, :3].square().sum(dim=(-2, -1)) + 1e-8).sqrt()
    step = (gap[..., :3, 3].square().sum(dim=-1) + 1e-8).sqrt()
    return (10 * turn + step / length).mean()


class _Level:
    """One size of the images, with what stays the same from step to step.

    Args:
        target: [B, 1, H, W].
        sources: [F · B, 1, H, W].
        disparity: [B, H, W].
        camera: intrinsics [B, 4].
        compiles: as for `align`.
    """

    def __init__(
        self,
        target: Tensor,
        sources: Tensor,
        disparity: Tensor,
        camera: Tensor,
        compiles: bool,
    ) -> None:
        self.target, self.sources = target[:, 0], sources
        self.disparity, self.camera = disparity, camera
        self.has_kernels = target.device.type == "cpu" and target.dtype == torch.float32
        self.compiles = compiles and not self.has_kernels
        self.jacobian = compiled(_jacobian, self.compiles)(target, disparity, camera)

    def align(self, poses: Tensor, steps: int) -> Tensor:
        """The best of [F, B, 4, 4] as it comes and after each of some steps."""
        # Spreads that changed with the poses would make costs that cannot be compared.
        shifts = (poses[..., :3, :3].transpose(-1, -2) @ poses[..., :3, 3:])[..., 0]
        equations = self.compare(poses, shifts)
        best, least = poses, equations.cost
        for _ in range(steps):
            poses = compiled(_step, self.compiles)(poses, equations)
            equations = self.compare(poses, shifts)
            best = torch.where((equations.cost < least)[..., None, None], poses, best)
            least = torch.minimum(equations.cost, least)
        return best

    def compare(self, poses: Tensor, shifts: Tensor) -> NormalEquations:
        """How the sources look under poses [F, B, 4, 4], and what would make them look better."""
        arguments = (
            self.target,
            self.sources.unflatten(0, poses.shape[:2])[:, :, 0],
            self.disparity,
            self.jacobian,
            shifts,
            poses,
            self.camera,
        )
        if self.has_kernels:
            from cpcdr.depth import alignment_cpu

            return NormalEquations(*alignment_cpu.normal_equations(*arguments, SPREAD))
        return compiled(normal_equations, self.compiles)(*arguments)


def normal_equations(
    target: Tensor,
    sources: Tensor,
    disparity: Tensor,
    jacobian: Tensor,
    shifts: Tensor,
    poses: Tensor,
    intrinsics: Tensor,
) -> NormalEquations:
    """Of grey sources' views from the target minus the target, in tensor operations.

    A residual's spread is that of grey values and that of depth, which moves a pixel along its
    epipolar line: near pixels, which move far, say little of turns, and far ones nearly all.

    Args:
        target, disparity: [B, H, W].
        sources: [F, B, H, W].
        jacobian: [B, 7, H, W], see `_jacobian`.
        shifts: [F, B, 3], translations in the target's coordinates that spreads are made with.
        poses: [F, B, 4, 4].
        intrinsics: [B, 4].
    """
    pixels, inside = reproject(disparity, poses, intrinsics)
    views = sample_pixels(sources.flatten(0, 1)[:, None], pixels.flatten(0, 1))[:, 0]
    residuals = views.unflatten(0, poses.shape[:2]) - target
    with_depth = torch.einsum("fbc,bchw->fbhw", shifts, jacobian[:, 3:6])
    noise, depth_error, cauchy = SPREAD
    variance = noise + depth_error * with_depth.square()
    excess = 1 + residuals.square() / (cauchy * variance)
    seen = inside.sum(dim=(2, 3))
    cost = (excess.log() * inside).sum(dim=(2, 3)) / seen.clamp(min=1)
    flat = jacobian.flatten(2)
    weighted = flat * (inside / (variance * excess)).flatten(2)[:, :, None]
    return NormalEquations(
        hessian=weighted @ flat.transpose(1, 2),
        gradient=(weighted @ residuals.flatten(2)[..., None])[..., 0],
        cost=cost.masked_fill(seen < target[0].numel() / 4, torch.inf),
    )


def _step(poses: Tensor, equations: NormalEquations) -> Tensor:
    """A damped Gauss-Newton step of the motion's six numbers and a difference in brightness."""
    diagonal = equations.hessian.diagonal(dim1=2, dim2=3)
    damped = equations.hessian + torch.diag_embed(_DAMPING * diagonal + 1e-6)
    # solve_ex checks nothing, so that a GPU need not be waited for.
    motion = torch.linalg.solve_ex(damped, equations.gradient[..., None])[0][..., 0]
    return poses @ invert_pose(pose_matrix(motion[..., :3], motion[..., 3:6]))


def _jacobian(target: Tensor, disparity: Tensor, camera: Tensor) -> Tensor:
    """How the target's grey values change [B, 7, H, W] with a motion of its camera (three of
    rotation, three of translation) and with brightness."""
    padded = functional.pad(target, (1, 1, 1, 1), mode="replicate")[:, 0]
    fx, fy = camera[:, 0, None, None], camera[:, 1, None, None]
    along_x = fx * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_y = fy * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    x, y, _ = pixel_rays(camera, *disparity.shape[1:]).unbind(1)
    along_z = -(along_x * x + along_y * y)
    turns = (along_z * y - along_y, along_x - along_z * x, along_y * x - along_x * y)
    moves = (along_x * disparity, along_y * disparity, along_z * disparity)
    return torch.stack([*turns, *moves, torch.ones_like(x)], dim=1)


def _grey(images: Tensor) -> Tensor:
    """[..., 3, H, W] to its luma [..., 1, H, W]."""
    red, green, blue = images.split(1, dim=-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
