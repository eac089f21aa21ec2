"""The segmentation network: backbone, feature pyramid, semantic head, projector, prototypes.

Feature pyramid: Lin et al., CVPR 2017. Semantic head: Kirillov et al., "Panoptic Feature Pyramid
Networks", CVPR 2019. Prototypes: Caron et al., "SwAV", NeurIPS 2020.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cpcdr.model.backbone import STRIDES, Backbone, stages_of
from cpcdr.model.backbones import open_backbone
from cpcdr.model.config import ModelConfig
from cpcdr.runtime.checkpoint import load_module, read_checkpoint
from cpcdr.runtime.config import overlay
from cpcdr.runtime.device import half_on_gpu, pixels_on
from cpcdr.runtime.errors import InputError

_SCORES = 2**24
"""Scores of pixels against prototypes that are held at once: 64 MiB."""
_GROUP = 16
"""Channels that are normalised together (Wu and He, "Group normalization", ECCV 2018)."""


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections: every level gets the same number of channels."""

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(c, channels, 1) for c in in_channels])
        self.output = nn.ModuleList(
            [nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels]
        )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        merged = [self.lateral[-1](levels[-1])]
        for lateral, level in zip(reversed(self.lateral[:-1]), reversed(levels[:-1]), strict=True):
            up = F.interpolate(merged[0], size=level.shape[-2:], mode="nearest")
            merged.insert(0, lateral(level) + up)
        return [output(x) for output, x in zip(self.output, merged, strict=True)]


class SemanticHead(nn.Module):
    """Each pyramid level is convolved and upsampled to stride 4; the levels are summed."""

    def __init__(self, in_channels: int, channels: int, levels: int = 4) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [self._branch(in_channels, channels, max(1, level)) for level in range(levels)]
        )

    @staticmethod
    def _branch(in_channels: int, channels: int, convolutions: int) -> nn.ModuleList:
        return nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(
                        in_channels if i == 0 else channels, channels, 3, padding=1, bias=False
                    ),
                    nn.GroupNorm(32, channels),
                    nn.ReLU(inplace=True),
                )
                for i in range(convolutions)
            ]
        )

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        size = pyramid[0].shape[-2:]
        total = torch.zeros((), device=pyramid[0].device)
        for x, branch in zip(pyramid, self.branches, strict=True):
            assert isinstance(branch, nn.ModuleList)
            for i, block in enumerate(branch):
                # The last doubling goes to the exact size, whatever odd sizes lie between.
                last = i == len(branch) - 1
                target = size if last else (2 * x.shape[-2], 2 * x.shape[-1])
                x = block(x)
                if x.shape[-2:] != target:
                    x = F.interpolate(x, size=target, mode="bilinear", align_corners=False)
            total = total + x
        return total


def _group_norms(module: nn.Module, backbone: str) -> None:
    """Put group normalisation in the place of batch normalisation.

    Raises:
        InputError: a layer of the library normalises and does more.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            channels = child.num_features
            groups = channels // _GROUP if channels % _GROUP == 0 else 1
            module.add_module(name, nn.GroupNorm(groups, channels))
        elif isinstance(child, _BatchNorm):
            raise InputError(
                f"normalisation group: {backbone} has batch normalisation of its own kind; take a "
                "ResNet of cpcdr or torchvision."
            )
        else:
            _group_norms(child, backbone)


class SegmentationNetwork(nn.Module):
    """Images to dense features, and features to prototype scores."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = open_backbone(config.backbone, config.width)
        self.levels = [self.backbone.strides.index(stride) for stride in STRIDES]
        channels = [self.backbone.channels[level] for level in self.levels]
        self.pyramid = FeaturePyramid(channels, config.fpn_channels)
        self.head = SemanticHead(config.fpn_channels, config.head_channels)
        self.projector = nn.Sequential(
            nn.Conv2d(config.head_channels, config.head_channels, 1, bias=False),
            nn.BatchNorm2d(config.head_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.head_channels, config.feature_dim, 1),
        )
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, config.feature_dim))
        self.normalise_prototypes()
        self.frozen: list[nn.Module] = []
        if config.normalisation == "group":
            _group_norms(self, config.backbone)
        if config.padding != "zeros":
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.padding_mode = config.padding

    @torch.no_grad()
    def normalise_prototypes(self) -> None:
        """Put the prototypes back on the unit sphere; done after every optimiser step."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))

    def freeze(self) -> None:
        """Stop training what `ModelConfig.freeze` and `ModelConfig.norm` say."""
        c, backbone = self.config, self.backbone
        stages = stages_of(backbone)[: c.freeze] if c.freeze else []
        for name in (name for stage in stages for name in stage):
            backbone.get_parameter(name).requires_grad_(False)
        for module in backbone.modules():
            trained = [p.requires_grad for p in module.parameters()]
            statistics = c.norm == "frozen" and isinstance(module, _BatchNorm)
            if statistics or (trained and not any(trained)):
                self.frozen.append(module)
        self.train(self.training)

    def train(self, mode: bool = True) -> "SegmentationNetwork":
        """As of any module; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups: the backbone's stages may learn more slowly than the rest."""
        c = self.config
        if c.backbone_lr == c.stage_decay == 1:
            return [{"params": list(self.parameters())}]
        named = dict(self.backbone.named_parameters())
        stages = stages_of(self.backbone)
        groups: list[dict[str, Any]] = [
            {"params": [named[n] for n in stage], "lr_scale": c.backbone_lr * c.stage_decay**above}
            for stage, above in zip(stages, reversed(range(len(stages))), strict=True)
        ]
        slow = {id(p) for group in groups for p in group["params"]}
        return [*groups, {"params": [p for p in self.parameters() if id(p) not in slow]}]

    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps of strides 4, 8, 16 and 32 of images [N, 3, H, W] in [0, 1]."""
        maps = self.backbone(self.backbone.normalisation(images))
        return [maps[level] for level in self.levels]

    def embed(self, images: Tensor) -> Tensor:
        """The head's features of images [N, 3, H, W] in [0, 1], as a linear probe sees them.

        Returns:
            [N, head_channels, ceil(H/4), ceil(W/4)].
        """
        return self.head(self.pyramid(self.maps(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Projected features, not normalised: [N, C, ceil(H/4), ceil(W/4)]."""
        return self.projector(self.embed(images))

    @torch.inference_mode()
    def nearest_of(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The nearest prototype of every pixel of images uint8 [N, H, W, 3]: int64 [N, H, W].

        In half precision on a GPU, but for the comparison with prototypes.
        """
        return self.nearest(self._features_of(images), images.shape[1:3]).cpu().numpy()

    def _features_of(self, images: NDArray[np.uint8]) -> Tensor:
        device = self.prototypes.device
        with half_on_gpu(device):
            features: Tensor = self(pixels_on(device, images))
        return features.float()

    def nearest(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """The nearest prototype of every pixel, int64 [N, *size], of features [N, C, h, w]."""
        nearest = [
            torch.cat([s.argmax(dim=0) for s in _strips(feature, size, self.prototypes)])
            for feature in features
        ]
        return torch.stack(nearest)

    @torch.inference_mode()
    def cluster_scores(
        self, images: NDArray[np.uint8], clusters: NDArray[np.int64], number: int
    ) -> Tensor:
        """Scores [N, G, H, W] of clusters at every pixel: each that of its nearest prototype.

        Args:
            images: uint8 [N, H, W, 3]; in half precision on a GPU, as for `nearest_of`.
            clusters: int64 [K] cluster of each prototype, 0..G-1.
            number: G; a cluster without prototypes has the score of the farthest one.
        """
        order = torch.from_numpy(clusters.argsort(kind="stable")).to(self.prototypes.device)
        prototypes = self.prototypes[order]  # a cluster's are beside each other
        counts = np.bincount(clusters, minlength=number).tolist()
        scores = [
            torch.cat(
                [
                    torch.stack([_highest(group, strip) for group in strip.split(counts)])
                    for strip in _strips(feature, images.shape[1:3], prototypes)
                ],
                dim=1,
            )
            for feature in self._features_of(images)
        ]
        return torch.stack(scores)


def _highest(group: Tensor, everyone: Tensor) -> Tensor:
    return group.amax(dim=0) if len(group) else everyone.amin(dim=0)


def _strips(feature: Tensor, size: Sequence[int], prototypes: Tensor) -> Iterator[Tensor]:
    """Scores [K, rows, W] of upsampled [C, h, w], from the top: a frame's would take gigabytes.

    Scaling a feature does not change which prototype is nearest: no normalisation needed.
    """
    whole = F.interpolate(
        feature[None], size=(size[0], size[1]), mode="bilinear", align_corners=False
    )[0]
    rows = max(1, _SCORES // (size[1] * len(prototypes)))
    for strip in whole.split(rows, dim=1):
        yield torch.einsum("chw,kc->khw", strip, prototypes)


def load_network(folder: Path) -> tuple[SegmentationNetwork, dict[str, Any]]:
    """The network of a pre-trained or named checkpoint, in evaluation mode, and its config.

    Raises:
        InputError: files are missing or damaged, or the checkpoint is of another network.
    """
    values, weights = read_checkpoint(folder, "pretrain", "name")
    section = values["config"].get("model")
    if not isinstance(section, dict):
        raise InputError(
            f"{folder / 'config.yaml'}: has no model section; give a checkpoint folder written by "
            "cpcdr pretrain."
        )
    where = f"{folder / 'config.yaml'}: model"
    config = overlay(ModelConfig(), section, where)
    prefix = "network."
    own = {k.removeprefix(prefix) if k.startswith(prefix) else k: v for k, v in weights.items()}
    try:
        # Also refuses what is not the network's, such as a classifier's.
        network = load_module(lambda: SegmentationNetwork(config), own)
    except RuntimeError as error:
        raise InputError(
            f"{folder / 'model.safetensors'}: its weights do not fit its config.yaml; "
            "give a checkpoint folder written by cpcdr pretrain."
        ) from error
    return network.eval(), values
