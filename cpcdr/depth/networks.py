"""The depth network: torchvision's ResNet blocks and a U-Net decoder.

Shapes follow Monodepth2 (Godard et al. 2019, arXiv 1806.01260), with the width as a
parameter: 64 for a GPU (ResNet-18 or -50), 16 for small runs on two CPU cores.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.geometry import MIN_DISPARITY
from cpcdr.model.resnet import Encoder

SCALES = 4
"""Disparities are predicted at strides 1, 2, 4 and 8."""
_HORIZON, _SLOPE = -2.9, 2.0
"""Logit of an empty street's disparity at mid-height, and its increase from there to the bottom."""


class DepthNet(nn.Module):
    """One image to disparities at four scales; the decoder has width/4 .. 4·width channels."""

    def __init__(self, backbone: str = "resnet18", width: int = 64) -> None:
        super().__init__()
        self.encoder = Encoder(backbone, width)
        skips = [0, *self.encoder.channels[:-1]]  # by output stride 1, 2, 4, 8, 16
        widths = [max(8, (width // 4) << i) for i in range(5)]
        inputs = [*widths[1:], self.encoder.channels[-1]]
        self.reduce = nn.ModuleList(_conv(i, w) for i, w in zip(inputs, widths, strict=True))
        self.merge = nn.ModuleList(_conv(w + s, w) for w, s in zip(widths, skips, strict=True))
        self.heads = nn.ModuleList(_conv(w, 1) for w in widths[:SCALES])
        # Start as an empty street, disparity 0.01 at the top to 0.3 at the bottom: the first warped
        # views roughly fit the road, so that motion has a useful gradient at once.
        self.slope = nn.Parameter(torch.full((SCALES,), _SLOPE))
        for head in self.heads:
            nn.init.constant_(head.bias, _HORIZON)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Disparities of images [B, 3, H, W] in [0, 1]; H and W are multiples of 32.

        Returns:
            Four tensors [B, 1, H / 2^s, W / 2^s] in [0.005, 1], s = 0..3.
        """
        features = self.encoder(self.encoder.normalisation(images))
        x = features[-1]
        disparities: list[Tensor] = []
        for i in reversed(range(5)):
            x = functional.elu(self.reduce[i](x), inplace=True)
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            if i > 0:
                x = torch.cat([x, features[i - 1]], dim=1)
            x = functional.elu(self.merge[i](x), inplace=True)
            if i < SCALES:
                disparities.append(_disparity(x, self.heads[i], self.slope[i]))
        return disparities[::-1]


def _disparity(features: Tensor, head: nn.Module, slope: Tensor) -> Tensor:
    # Full precision for the last step: bfloat16's 8 bits would quantise disparity visibly.
    with torch.autocast(features.device.type, enabled=False):
        height = torch.linspace(-1, 1, features.shape[2], device=features.device)
        return _squash(head(features.float()) + slope * height[:, None])


def empty_street(height: int) -> Tensor:
    """Approximate disparity per row of an untrained network: [height]."""
    return _squash(_HORIZON + _SLOPE * torch.linspace(-1, 1, height))


def _squash(logit: Tensor) -> Tensor:
    return MIN_DISPARITY + (1 - MIN_DISPARITY) * torch.sigmoid(logit)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
