"""A depth network for any camera: log depth in units of the focal length, without saturation.

What a pixel shows of depth is f/z, the size in pixels of one metre there (Yin et al. 2023,
Metric3D). The network says its logarithm, and the camera's own focal length makes metres of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.model.resnet import Encoder

START = 2.0
"""ln(f/z) of an untrained network: 40 m at a focal length of 300 pixels."""


class StreetNet(nn.Module):
    """Images to ln(f/z), f in pixels of the image and z in metres.

    Args:
        width: channels of the encoder's first layer.
        backbone: a key of ``BACKBONES``.
    """

    def __init__(self, width: int = 24, backbone: str = "resnet18") -> None:
        super().__init__()
        self.encoder = Encoder(backbone, width)
        channels = self.encoder.channels
        widths = [width, width, 2 * width, 2 * width, 4 * width]  # by stride 2, 4, 8, 16, 32
        self.lateral = nn.ModuleList(
            nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(len(widths) - 1)
        )
        self.merge = nn.ModuleList(
            nn.Conv2d(w, w, 3, padding=1, padding_mode="replicate") for w in widths
        )
        self.head = nn.Conv2d(width, 1, 3, padding=1, padding_mode="replicate")
        nn.init.constant_(self.head.bias, START)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """ln(f/z) float32 [B, 1, H, W] of images [B, 3, H, W] in [0, 1]; H, W multiples of 32."""
        features = self.encoder(images)
        x = functional.elu(self.merge[4](functional.elu(self.lateral[4](features[4]))))
        for i in reversed(range(4)):
            x = functional.interpolate(self.narrow[i](x), scale_factor=2.0, mode="bilinear")
            x = functional.elu(self.merge[i](functional.elu(x + self.lateral[i](features[i]))))
        with torch.autocast(images.device.type, enabled=False):
            coarse = self.head(x.float())
            return functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear")
