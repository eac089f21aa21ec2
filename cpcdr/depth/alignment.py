"""Direct image alignment: camera poses refined photometrically, given depth.

After a few thousand steps a pose network is still a few pixels off, and depth learned from such
views is wrong at long range. Given a disparity map, a pose has six unknowns, and Gauss-Newton finds
them in a few steps. Poses are therefore as accurate as the depth from the first steps on (Wang et
al., "Learning Depth from Monocular Videos using Direct Methods", CVPR 2018, arXiv 1712.00175).

Steps are inverse compositional (Baker & Matthews 2004): gradients of the target replace those of
the warped source, so the Jacobian is computed once per pyramid level. Shape letters besides the
usual ones: F source frames (previous, next).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cpcdr.depth.augment import LUMA
from cpcdr.geometry import invert_pose, pixel_rays, pose_matrix, reproject, sample_pixels
from cpcdr.runtime.device import compiled

_COARSEST = 24
"""Least rows of a pyramid level: at that size a pose network is off by about a pixel."""
_NOISE = 0.02
"""Standard deviation of grey values in [0, 1] where depth is correct."""
_DEPTH_ERROR = 0.8
"""Standard deviation of log depth during training: near points are uncertain by several pixels and
constrain rotation poorly."""
_CAUCHY = 1.5
"""Residuals beyond this many standard deviations are down-weighted: moving cars, occlusions."""
VARIANCES = (_NOISE**2, _DEPTH_ERROR**2, _CAUCHY**2)
"""The three, squared."""
_DAMPING = 1e-3


class NormalEquations(NamedTuple):
    """Least squares of grey residuals, reweighted by Cauchy's robust function, for each pose.

    Attributes:
        hessian: [F, B, 7, 7].
        gradient: [F, B, 7].
        cost: [F, B], mean of log(1 + (residual / (1.5 standard deviations))²) over the pixels
            inside the source; infinite where fewer than a quarter are.
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
    still: Tensor | None = None,
) -> Tensor:
    """Refine poses so that the sources, warped to the target, match it; without gradients.

    Args:
        target: [B, 3, H, W] in [0, 1].
        sources: [F, B, 3, H, W].
        disparity: [B, H, W] of the target.
        poses: initial ones [F, B, 4, 4], target to source coordinates.
        intrinsics: [B, 4].
        steps: Gauss-Newton steps at each pyramid level.
        compiles: use ``torch.compile`` where no custom kernel exists.
        still: bool [B, H, W], pixels that are fixed to the camera and tell nothing of its motion.

    Returns:
        [F, B, 4, 4]. A level at which no step improves a pose leaves it unchanged.
    """
    # Detach: torch.compile recompiles for inputs that require gradients.
    disparity, poses, intrinsics = disparity.detach(), poses.detach(), intrinsics.detach()
    grey_target, grey_sources = _grey(target), _grey(sources.flatten(0, 1))
    counts = None if still is None else 1.0 - still[:, None].float()
    for factor in pyramid_factors(target.shape[2]):
        camera = torch.cat(
            [intrinsics[:, :2] / factor, (intrinsics[:, 2:] + 0.5) / factor - 0.5], dim=1
        )
        level = _Level(
            functional.avg_pool2d(grey_target, factor),
            functional.avg_pool2d(grey_sources, factor),
            functional.avg_pool2d(disparity[:, None], factor)[:, 0],
            None if counts is None else functional.avg_pool2d(counts, factor),
            camera,
            compiles,
        )
        poses = level.align(poses, steps)
    return poses


def pyramid_factors(height: int) -> list[int]:
    """Downsampling factors of the image pyramid, powers of two, coarse to fine, down to 1."""
    powers = max(0, (height // _COARSEST).bit_length() - 1)
    return [1 << power for power in range(powers, -1, -1)]


def motion_gap(poses: Tensor, aligned: Tensor) -> Tensor:
    """Mean distance of poses [..., 4, 4] from aligned ones: a scalar, differentiable in ``poses``.

    Translation errors are relative to the aligned translation's length; a rotation error of 0.07
    radians weighs as much as a translation error of the whole length.
    """
    gap = poses - aligned
    length = aligned[..., :3, 3].norm(dim=-1).clamp_min(0.1)
    # The small constant keeps the square root's gradient finite at zero.
    rotation = (gap[..., :3, :3].square().sum(dim=(-2, -1)) + 1e-8).sqrt()
    translation = (gap[..., :3, 3].square().sum(dim=-1) + 1e-8).sqrt()
    return (10 * rotation + translation / length).mean()


class _Level:
    """One pyramid level, with everything that is constant over its steps.

    Args:
        target: [B, 1, H, W].
        sources: [F · B, 1, H, W].
        disparity: [B, H, W].
        counts: [B, 1, H, W] in [0, 1], how much a pixel tells of the motion; None: all alike.
        camera: intrinsics [B, 4].
    """

    def __init__(
        self,
        target: Tensor,
        sources: Tensor,
        disparity: Tensor,
        counts: Tensor | None,
        camera: Tensor,
        compiles: bool,
    ) -> None:
        self.target, self.sources = target[:, 0], sources
        self.disparity, self.camera = disparity, camera
        self.has_kernels = target.device.type == "cpu" and target.dtype == torch.float32
        self.compiles = compiles and not self.has_kernels
        jacobian = compiled(_jacobian, self.compiles)(target, disparity, camera)
        self.jacobian = jacobian if counts is None else jacobian * counts

    def align(self, poses: Tensor, steps: int) -> Tensor:
        """The best of the given poses [F, B, 4, 4] and those after each step."""
        # Fixed: with variances that follow the poses, costs could not be compared.
        shifts = _shifts(poses)
        equations = self.linearise(poses, shifts)
        best, least = poses, equations.cost
        for _ in range(steps):
            poses = compiled(_step, self.compiles)(poses, equations)
            equations = self.linearise(poses, shifts)
            best = torch.where((equations.cost < least)[..., None, None], poses, best)
            least = torch.minimum(equations.cost, least)
        return best

    def linearise(self, poses: Tensor, shifts: Tensor) -> NormalEquations:
        """Normal equations at poses [F, B, 4, 4]."""
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

            return NormalEquations(*alignment_cpu.normal_equations(*arguments, VARIANCES))
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
    """Normal equations of the residuals, warped source minus target, in tensor operations.

    A residual's variance is that of grey values plus that of depth, which moves a pixel along its
    epipolar line: near pixels, which move far, constrain rotation poorly, distant ones well.

    Args:
        target: [B, H, W].
        disparity: [B, H, W].
        sources: [F, B, H, W].
        jacobian: [B, 7, H, W], see `_jacobian`.
        shifts: [F, B, 3], translations in the target's coordinates, for the variance due to depth.
        poses: [F, B, 4, 4].
        intrinsics: [B, 4].
    """
    pixels, inside = reproject(disparity, poses, intrinsics)
    views = sample_pixels(sources.flatten(0, 1)[:, None], pixels.flatten(0, 1))[:, 0]
    residuals = views.unflatten(0, poses.shape[:2]) - target
    with_depth = torch.einsum("fbc,bchw->fbhw", shifts, jacobian[:, 3:6])
    noise, depth_error, cauchy = VARIANCES
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


def depth_slopes(target: Tensor, disparity: Tensor, poses: Tensor, camera: Tensor) -> Tensor:
    """Change of the grey values in each source per unit of a pixel's log depth: [F, B, H, W].

    Arguments as of `align`.
    """
    jacobian = _jacobian(_grey(target), disparity, camera)
    return torch.einsum("fbc,bchw->fbhw", _shifts(poses), jacobian[:, 3:6])


def _shifts(poses: Tensor) -> Tensor:
    """Translations [F, B, 3] in the target's coordinates."""
    return (poses[..., :3, :3].transpose(-1, -2) @ poses[..., :3, 3:])[..., 0]


def _step(poses: Tensor, equations: NormalEquations) -> Tensor:
    """A damped Gauss-Newton step in six motion parameters and a brightness offset."""
    diagonal = equations.hessian.diagonal(dim1=2, dim2=3)
    damped = equations.hessian + torch.diag_embed(_DAMPING * diagonal + 1e-6)
    # solve_ex skips the error check, which would synchronise with the GPU.
    motion = torch.linalg.solve_ex(damped, equations.gradient[..., None])[0][..., 0]
    return poses @ invert_pose(pose_matrix(motion[..., :3], motion[..., 3:6]))


def _jacobian(target: Tensor, disparity: Tensor, camera: Tensor) -> Tensor:
    """Derivatives [B, 7, H, W] of the target's grey values with respect to camera motion (three
    rotations, three translations) and brightness."""
    padded = functional.pad(target, (1, 1, 1, 1), mode="replicate")[:, 0]
    fx, fy = camera[:, 0, None, None], camera[:, 1, None, None]
    along_x = fx * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_y = fy * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    x, y, _ = pixel_rays(camera, *disparity.shape[1:]).unbind(1)
    along_z = -(along_x * x + along_y * y)
    rotations = (along_z * y - along_y, along_x - along_z * x, along_y * x - along_x * y)
    translations = (along_x * disparity, along_y * disparity, along_z * disparity)
    return torch.stack([*rotations, *translations, torch.ones_like(x)], dim=1)


def _grey(images: Tensor) -> Tensor:
    """RGB [..., 3, H, W] to luma [..., 1, H, W]."""
    red, green, blue = images.split(1, dim=-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
