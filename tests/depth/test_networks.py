"""Shapes, ranges and names of the depth network."""

import pytest
import torch
from torchvision.models import resnet18

from cpcdr.depth.networks import DepthNet, Encoder


def test_starts_with_the_disparity_of_an_empty_street():
    torch.manual_seed(0)
    with torch.no_grad():
        disparity = DepthNet(width=16)(torch.rand(4, 3, 64, 96))[0].mean(dim=(0, 1, 3))
    assert float(disparity[:8].max()) < 0.05 < 0.15 < float(disparity[-8:].min())


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 8), ("resnet50", 16)])
def test_disparities_at_four_scales(backbone, channels):
    net = DepthNet(backbone, channels)
    with torch.no_grad():
        disparities = net(torch.rand(2, 3, 64, 96))
    assert [tuple(d.shape) for d in disparities] == [(2, 1, 64 >> s, 96 >> s) for s in range(4)]
    assert all(float(d.min()) >= 0.005 and float(d.max()) <= 1 for d in disparities)


def test_encoder_is_torchvisions_resnet():
    encoder, theirs = Encoder("resnet18", 64), resnet18(weights=None).eval()
    encoder.load_state_dict({k: v for k, v in theirs.state_dict().items() if k[:2] != "fc"})
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(encoder.eval()(image)[-1], x)
