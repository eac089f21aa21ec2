"""The depth model: depth and pose networks, intrinsics, and the loss that trains them."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.depth.alignment import align, motion_gap
from cpcdr.depth.config import DepthConfig
from cpcdr.depth.learned_intrinsics import ASSUMED, LearnedIntrinsics
from cpcdr.depth.networks import DepthNet, empty_street
from cpcdr.depth.photometric import Photometric, photometric_loss, smoothness
from cpcdr.depth.pose import PoseNet
from cpcdr.geometry import invert_pose, pose_matrix

_GAP_WEIGHT, _UNIT_WEIGHT, _CENTRE_WEIGHT = 0.2, 0.1, 0.5
"""Weights of three loss terms: distance of predicted from aligned motions, drift of the depth
scale, and squared offset of a learned principal point in image sizes, which rotation and lateral
translation could otherwise compensate."""


class Reconstruction(NamedTuple):
    """A batch's current frames, reconstructed from their neighbours.

    Attributes:
        disparities: [B, 1, H/2^s, W/2^s] for s = 0..3.
        gap: distance of the predicted motions from the ones used, a scalar.
        poses: [2, B, 4, 4], the motions used, to the previous and to the next frame.
    """

    disparities: list[Tensor]
    photometric: Photometric
    gap: Tensor
    poses: Tensor


class DepthModel(nn.Module):
    """Depth and pose networks, trained on triplets of frames."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.compiles = False
        self.depth = DepthNet(config.backbone, config.channels)
        self.pose = PoseNet(
            config.channels, advance=0.6 * sum(config.spacing) / len(config.spacing)
        )
        self.intrinsics = LearnedIntrinsics() if config.intrinsics == "learn" else None

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` the networks and, separately, the parts of the loss.

        One graph, with the alignment steps unrolled, would take minutes longer to compile.
        """
        self.depth.compile(*args, **kwargs)
        self.pose.compile(*args, **kwargs)
        self.compiles = True

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The training loss and health metrics, all scalars.

        Args:
            batch: ``images`` and ``jittered`` [B, 3, 3, H, W] in [0, 1] (previous, current and
                next frame), ``intrinsics`` [B, 4], ``flipped`` [B] bool.

        Returns:
            ``loss``; ``photometric`` (mean reprojection error) and ``identity`` (error of identity
            reprojection); ``smoothness``; ``automask_share`` (fraction of pixels explained best by
            motion); ``mean_disparity`` and ``disparity_spread`` (standard deviation / mean, near 0
            after a collapse); with alignment, ``motion_gap`` of the pose network; with learned
            intrinsics, ``focal`` in image widths and ``turning``, the fraction of triplets with
            enough rotation to constrain it.
        """
        disparities, photometric, gap, poses = self.reconstruct(batch)
        current = batch["images"][:, 1]
        smooth = current.new_zeros(())
        for scale, disparity in enumerate(disparities):
            image = functional.interpolate(current, size=disparity.shape[2:], mode="area")
            smooth = smooth + smoothness(disparity, image) / 2**scale
        smooth = smooth / len(disparities)
        finest = disparities[0].detach()
        loss = photometric.loss + self.config.smoothness * smooth
        metrics = {
            "loss": loss,
            "photometric": photometric.error.mean(),
            "identity": photometric.identity.mean(),
            "smoothness": smooth.detach(),
            "automask_share": photometric.mask.float().mean(),
            "mean_disparity": finest.mean(),
            "disparity_spread": (finest.std(dim=(2, 3)) / finest.mean(dim=(2, 3))).mean(),
        }
        if self.config.alignment_steps:
            metrics["loss"] = loss + _GAP_WEIGHT * gap + _UNIT_WEIGHT * _drift(disparities[0])
            metrics["motion_gap"] = gap.detach()
        if self.intrinsics is not None:
            metrics["loss"] = metrics["loss"] + _CENTRE_WEIGHT * self.intrinsics.off_centre()
            metrics["focal"] = self.intrinsics.log_focal.detach().exp()
            metrics["turning"] = self.intrinsics.rotating(poses).float().mean()
        return metrics

    def reconstruct(self, batch: dict[str, Any], aligned: bool = True) -> Reconstruction:
        """The current frames from their neighbours, by predicted or by ``aligned`` motions."""
        disparities = self.depth(batch["jittered"][:, 1])
        poses = self._predicted_poses(batch["jittered"])
        # Half precision would shift reprojected points by whole pixels.
        with torch.autocast(poses.device.type, enabled=False):
            images, camera = batch["images"], self.camera(batch)
            target, sources = images[:, 1], torch.stack([images[:, 0], images[:, 2]])
            full = torch.cat([_upsample(d, images.shape[-2:]) for d in disparities], dim=1)
            gap = poses.new_zeros(())
            if aligned and self.config.alignment_steps:
                steps = self.config.alignment_steps
                fitted = align(target, sources, full[:, 0], poses, camera, steps, self.compiles)
                gap, poses = motion_gap(poses, fitted), fitted
                if self.intrinsics is not None:
                    poses, camera = self.intrinsics.gate_gradients(fitted, camera)
            photometric = photometric_loss(target, sources, full, poses, camera, self.compiles)
        return Reconstruction(disparities, photometric, gap, poses.detach())

    def sequence_motions(self, images: Tensor, intrinsics: Tensor) -> Tensor:
        """Motions from each of consecutive frames to the next, aligned by ``alignment_steps``.

        Args:
            images: [N, 3, H, W] in [0, 1].
            intrinsics: [N, 4] of the frames; ignored where they are learned.

        Returns:
            [N - 1, 4, 4], points of a frame's camera into the next one's, in units of depth.
        """
        first, second = images[:-1], images[1:]
        poses = pose_matrix(*self.motion(images[None]))
        camera = self.camera(
            {
                "images": first,
                "intrinsics": intrinsics[:-1],
                "flipped": torch.zeros(len(first), dtype=torch.bool, device=images.device),
            }
        )
        disparity = self.depth(first)[0][:, 0]
        steps = self.config.alignment_steps
        return align(first, second[None], disparity, poses, camera, steps)[0]

    def _predicted_poses(self, images: Tensor) -> Tensor:
        """Predicted motions [2, B, 4, 4] of triplets [B, 3, 3, H, W], from the current frame to
        the previous and to the next."""
        rotation, translation = self.motion(images)
        with torch.autocast(images.device.type, enabled=False):
            to_current, to_following = pose_matrix(rotation, translation).unbind(1)
            return torch.stack([invert_pose(to_current), to_following])

    def motion(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted rotations and translations between consecutive frames [B, T, 3, H, W], in
        radians and units of depth.

        Where the focal length is learned, predicted rotations about x and y and translations along
        them refer to the assumed one. Otherwise the focal length would shrink while motions are
        inaccurate, because that reduces their error.
        """
        rotation, translation = self.pose(frames)
        if self.intrinsics is not None:
            factors = self.intrinsics.compensation(math.log(ASSUMED))
            if self.config.alignment_steps:
                factors = factors.detach()  # errors are the network's, not the camera's
            rotation, translation = rotation * factors, translation * factors
        return rotation, translation

    def camera(self, batch: dict[str, Any]) -> Tensor:
        """Intrinsics [B, 4] of the batch's images: the given ones, or the learned ones."""
        if self.intrinsics is None:
            return batch["intrinsics"]
        return self.intrinsics(batch["images"], batch["flipped"])


def _drift(disparity: Tensor) -> Tensor:
    """Squared distance of the mean log disparity from an empty street's. With aligned motions
    nothing else fixes the scale, and depth would drift to its limit."""
    start = empty_street(disparity.shape[2]).log().mean()
    return (disparity.float().log().mean() - start).square()


def _upsample(disparity: Tensor, size: torch.Size) -> Tensor:
    if disparity.shape[2:] == size:
        return disparity
    return functional.interpolate(disparity, size=size, mode="bilinear", align_corners=False)
