"""ResNet encoders with a free width, from torchvision's blocks (He et al., CVPR 2016).

One code for the published networks (width 64) and for small ones that train on CPU cores.
torchvision is imported where a network is built: its import takes as long as PyTorch's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from cpcdr.model.backbone import Backbone, Normalisation

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

BACKBONES = {
    "resnet10": ("BasicBlock", (1, 1, 1, 1)),
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
}
"""Block of `torchvision.models.resnet` and number of blocks in the four layers."""


class Encoder(Backbone):
    """ResNet without its classifier; parameter names are torchvision's.

    Args:
        width: channels of the first layer; 64 is the published network.

    Attributes:
        channels: channels of the five feature maps.
        strides: theirs, 2 to 32.
        normalisation: of its images.
    """

    normalisation = Normalisation((0.45,) * 3, (0.225,) * 3)

    def __init__(self, backbone: str, width: int) -> None:
        super().__init__()
        from torchvision.models import resnet

        name, depths = BACKBONES[backbone]
        block = getattr(resnet, name)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.channels, self.strides = [width], [2, 4, 8, 16, 32]
        previous = width
        for i, depth in enumerate(depths):
            planes = width << i
            self.add_module(f"layer{i + 1}", _stage(block, previous, planes, depth, 1 + (i > 0)))
            previous = planes * block.expansion
            self.channels.append(previous)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> five feature maps, finest first."""
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        features = [x]
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
            features.append(x)
        return features


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, depth: int, stride: int
) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    first = block(inputs, planes, stride, shortcut)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(depth - 1)))
