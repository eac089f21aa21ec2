"""The depth model: depth and pose networks, intrinsics, and the loss that trains them."""

import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.depth.alignment import align, motion_gap
from cpcdr.depth.config import DepthConfig
from cpcdr.depth.learned_intrinsics import ASSUMED, LearnedIntrinsics
from cpcdr.depth.networks import DepthNet, empty_street
from cpcdr.depth.photometric import Photometric, photometric_loss, smoothness
from cpcdr.depth.pose import PoseNet
from cpcdr.depth.prior import ambiguity, prior_loss
from cpcdr.depth.street_net import StreetNet
from cpcdr.geometry import invert_pose, pose_matrix

_GAP_WEIGHT, _UNIT_WEIGHT, _CENTRE_WEIGHT = 0.2, 0.1, 0.5
"""Weights of three loss terms: distance of predicted from aligned motions, drift of the depth
scale, and squared offset of a learned principal point in image sizes, which rotation and lateral
translation could otherwise compensate."""
_ADVANCE = 0.6
"""Forward motion from frame to frame at the start of training, in units of depth."""


class Reconstruction(NamedTuple):
    """A batch's current frames, reconstructed from their neighbours.

    Attributes:
        disparities: [B, 1, H/2^s, W/2^s] for s = 0..3, or for s = 0 alone.
        camera: intrinsics [B, 4].
        gap: distance of the predicted motions from the ones used, a scalar.
        poses: [2, B, 4, 4], the motions used, to the previous and to the next frame.
    """

    disparities: list[Tensor]
    camera: Tensor
    photometric: Photometric
    gap: Tensor
    poses: Tensor


class DepthModel(nn.Module):
    """Depth and pose networks, trained on triplets of frames.

    Args:
        street_channels: of the network that ``config.start`` names, unless it is ``scratch``.

    Attributes:
        prior: a network that knows depth already, in a tuple: it is neither trained nor stored.
    """

    def __init__(self, config: DepthConfig, street_channels: int = StreetNet.CHANNELS) -> None:
        super().__init__()
        self.config = config
        self.compiles = False
        if config.start == "scratch":
            self.depth: nn.Module = DepthNet(config.backbone, config.channels)
        else:
            self.depth = StreetNet(street_channels)
        spacing = config.spacing or (1,)
        self.pose = PoseNet(config.channels, advance=_ADVANCE * sum(spacing) / len(spacing))
        self.intrinsics = LearnedIntrinsics() if config.intrinsics == "learn" else None
        self.prior: tuple[StreetNet, ...] = ()
        if config.prior:
            self.register_buffer("prior_weight", torch.tensor(config.prior))

    def start_from(self, network: StreetNet) -> None:
        """Take a network as the prior, and its weights unless ``config.start`` is ``scratch``."""
        if isinstance(self.depth, StreetNet):
            self.depth.load_state_dict(network.state_dict())
        frozen = network.eval().requires_grad_(False)
        self.prior = (frozen.to(memory_format=torch.channels_last),)

    def raise_prior(self, factor: float) -> None:
        """Multiply the prior's weight."""
        self._prior_weight().mul_(factor)

    def _prior_weight(self) -> Tensor:
        return self.get_buffer("prior_weight")

    def train(self, mode: bool = True) -> Self:
        """As of any module, but a network that was trained before keeps its normalisation."""
        super().train(mode)
        if isinstance(self.depth, StreetNet):
            self.depth.eval()
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` the networks and, separately, the parts of the loss.

        One graph, with the alignment steps unrolled, would take minutes longer to compile. And no
        CUDA graphs, which ``mode`` may ask for: the networks run several times in a step.
        """
        kwargs.pop("mode", None)
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
            reprojection); ``smoothness``; with a prior, ``prior``, the weighted distance from it,
            and ``ambiguity``, the mean weight; ``automask_share`` (fraction of pixels explained
            best by motion); ``mean_disparity`` and ``disparity_spread`` (standard deviation /
            mean, near 0 after a collapse); with alignment, ``motion_gap`` of the pose network;
            with learned
            intrinsics, ``focal`` in image widths and ``turning``, the fraction of triplets with
            enough rotation to constrain it.
        """
        made = self.reconstruct(batch)
        disparities, photometric = made.disparities, made.photometric
        known = self.known_disparity(batch["images"][:, 1], batch["intrinsics"][:, 0])
        smooth = _roughness(disparities, batch["images"][:, 1], known)
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
        if known is not None:
            weight = ambiguity(batch["images"][:, 1], finest[:, 0], made.poses, made.camera)
            weight = torch.where(photometric.mask, weight, 1.0)
            distance, drift = prior_loss(disparities[0][:, 0], known[:, 0], weight)
            metrics["loss"] = loss + self._prior_weight() * distance + _UNIT_WEIGHT * drift
            metrics |= {"prior": distance.detach(), "ambiguity": weight.mean()}
        elif self.config.alignment_steps:
            metrics["loss"] = loss + _UNIT_WEIGHT * _drift(disparities[0])
        if self.config.alignment_steps:
            metrics["loss"] = metrics["loss"] + _GAP_WEIGHT * made.gap
            metrics["motion_gap"] = made.gap.detach()
        if self.intrinsics is not None:
            metrics["loss"] = metrics["loss"] + _CENTRE_WEIGHT * self.intrinsics.off_centre()
            metrics["focal"] = self.intrinsics.log_focal.detach().exp()
            metrics["turning"] = self.intrinsics.rotating(made.poses).float().mean()
        return metrics

    def reconstruct(self, batch: dict[str, Any], aligned: bool = True) -> Reconstruction:
        """The current frames from their neighbours, by predicted or by ``aligned`` motions."""
        disparities = self.disparities(batch["jittered"][:, 1], batch["intrinsics"][:, 0])
        return self.reconstruct_by(disparities, batch, aligned)

    def reconstruct_by(
        self, disparities: list[Tensor], batch: dict[str, Any], aligned: bool = True
    ) -> Reconstruction:
        """`reconstruct` with given disparities."""
        poses = self._predicted_poses(batch["jittered"])
        # Half precision would shift reprojected points by whole pixels.
        with torch.autocast(poses.device.type, enabled=False):
            images, camera = batch["images"], self.camera(batch)
            target, sources = images[:, 1], torch.stack([images[:, 0], images[:, 2]])
            full = torch.cat([_upsample(d, images.shape[-2:]) for d in disparities], dim=1)
            gap = poses.new_zeros(())
            if aligned and self.config.alignment_steps:
                steps = self.config.alignment_steps
                fitted = align(
                    target, sources, full[:, 0], poses, camera, steps, self.compiles,
                    batch.get("still"),
                )  # fmt: skip
                gap, poses = motion_gap(poses, fitted), fitted
                if self.intrinsics is not None:
                    poses, camera = self.intrinsics.gate_gradients(fitted, camera)
            photometric = photometric_loss(target, sources, full, poses, camera, self.compiles)
        return Reconstruction(disparities, camera, photometric, gap, poses.detach())

    def disparities(self, images: Tensor, focal: Tensor) -> list[Tensor]:
        """Disparities of images [B, 3, H, W], at four scales or at one: see `Reconstruction`.

        Args:
            focal: focal lengths [B] in pixels of these images.
        """
        if isinstance(self.depth, StreetNet):
            return [self._metric(self.depth, images, focal)]
        return list(self.depth(images))

    def known_disparity(self, images: Tensor, focal: Tensor) -> Tensor | None:
        """What the prior predicts, [B, 1, H, W], arguments as of `disparities`; None without it."""
        if not self.prior:
            return None
        with torch.no_grad():
            return self._metric(self.prior[0].to(images.device), images, focal)

    def _metric(self, network: StreetNet, images: Tensor, focal: Tensor) -> Tensor:
        """Disparity in 1/m; with learned intrinsics for the focal length that they start from."""
        log_size = network(images).float()
        if self.intrinsics is not None:
            return log_size.exp() / (ASSUMED * images.shape[-1])
        return log_size.exp() / focal[:, None, None, None]

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
        disparity = self.disparities(first, intrinsics[:-1, 0])[0][:, 0]
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


def _roughness(disparities: list[Tensor], image: Tensor, known: Tensor | None) -> Tensor:
    """Edge-aware smoothness of disparity, or of its ratio to a known one, over the scales."""
    total = image.new_zeros(())
    for scale, disparity in enumerate(disparities):
        size = disparity.shape[2:]
        small = functional.interpolate(image, size=size, mode="area")
        if known is not None:
            disparity = disparity / functional.interpolate(known, size=size, mode="area")
        total = total + smoothness(disparity, small) / 2**scale
    return total / len(disparities)


def _drift(disparity: Tensor) -> Tensor:
    """Squared distance of the mean log disparity from an empty street's. With aligned motions
    nothing else fixes the scale, and depth would drift to its limit."""
    start = empty_street(disparity.shape[2]).log().mean()
    return (disparity.float().log().mean() - start).square()


def _upsample(disparity: Tensor, size: torch.Size) -> Tensor:
    if disparity.shape[2:] == size:
        return disparity
    return functional.interpolate(disparity, size=size, mode="bilinear", align_corners=False)
