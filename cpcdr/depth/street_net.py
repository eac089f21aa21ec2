"""A depth network for any camera: log depth in units of the focal length, without saturation.

What a pixel shows of depth is f/z, the size in pixels of one metre there (Yin et al. 2023,
Metric3D). The network predicts its logarithm; the camera's focal length turns it into metres.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.model.resnet import Encoder

START = 2.0
"""ln(f/z) of an untrained network: 40 m at a focal length of 300 pixels."""


class StreetNet(nn.Module):
    """Images to ln(f/z), f in pixels of the image and z in metres.

    A feature pyramid (Lin et al. 2017) on a narrow ResNet-18. ReLU rather than ELU: half the time
    on a CPU.

    Args:
        channels: of the encoder's first layer.
    """

    CHANNELS = 24
    """Of the network in this package."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.channels = channels
        self.encoder = Encoder("resnet18", channels)
        c = channels
        widths = [c // 2, c, 2 * c, 2 * c, 4 * c]  # by stride 2, 4, 8, 16, 32
        self.lateral = nn.ModuleList(
            nn.Conv2d(i, o, 1) for i, o in zip(self.encoder.channels, widths, strict=True)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(i, o, 1) for o, i in pairwise(widths))
        self.merge = nn.ModuleList(_conv(w, w) for w in widths)
        self.head = _conv(widths[0], 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, START)

    def forward(self, images: Tensor) -> Tensor:
        """ln(f/z) float32 [B, 1, H, W] of images [B, 3, H, W] in [0, 1]; H, W multiples of 32."""
        features = self.encoder(self.encoder.normalisation(images))
        x = functional.relu(self.merge[4](functional.relu(self.lateral[4](features[4]))))
        for i in reversed(range(4)):
            x = functional.interpolate(self.narrow[i](x), scale_factor=2.0, mode="bilinear")
            x = functional.relu(self.merge[i](functional.relu(x + self.lateral[i](features[i]))))
        with torch.autocast(images.device.type, enabled=False):
            coarse = self.head(x.float())
            return functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear")


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")
