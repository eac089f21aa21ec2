"""The pose network: image displacements between two frames, and the camera motion behind them.

A plain convolutional encoder of both frames (Monodepth2's pose network) has to learn matching by
itself. Without pretrained weights it predicts the mean motion for thousands of steps, and depth
then learns from wrong views. Here matching is built in: learned features are correlated over a
window of displacements (the cost volume of PWC-Net, Sun et al. 2018, arXiv 1709.02371), and a small
network maps displacements and their products with position to a motion.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.runtime.device import constant

RADIUS = 4
"""Largest displacement in cells, in each direction."""
_LEVELS = ((1, 2), (4, 1))
"""Stride of the correlated maps relative to the features' stride of 4, and step between matched
cells."""
_ROTATION = 0.02
"""Radians of rotation per unit of network output."""
_YAW_GAIN = 1.2
"""Initial yaw, in radians, for a displacement of a level's upper half by the image width. Random
features underestimate displacements threefold: both levels together yield 2.4 instead of 0.87 (60°
field of view). The gain is learned as features improve."""


class PoseNet(nn.Module):
    """Consecutive frames to the rigid motions between their cameras.

    Features at stride 4 are matched up to 16 pixels away, averages at stride 16 up to 64.

    Args:
        advance: forward motion at the start of training, in units of depth; it settles the sign
            of motion, and with it the sign of the gradient of depth.
    """

    def __init__(self, width: int = 64, advance: float = 0.6) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, width, 2),
            _block(width, 2 * width, 2),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
        )
        self.motions = nn.ModuleList(_Motion(width, step) for _, step in _LEVELS)
        self.advance = advance

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The motions that map points of each frame's camera into the next one's coordinates.

        Args:
            frames: [B, T, 3, H, W] in [0, 1]; H and W multiples of 16.

        Returns:
            axis-angle [B, T - 1, 3] in radians and translation [B, T - 1, 3] in units of depth.
        """
        batch, count = frames.shape[:2]
        features = self.features((frames.flatten(0, 1) - 0.45) / 0.225).float()
        motion = features.new_zeros(batch * (count - 1), 6)
        for (stride, step), estimate in zip(_LEVELS, self.motions, strict=True):
            pooled = features if stride == 1 else functional.avg_pool2d(features, stride)
            pooled = pooled - pooled.mean(dim=(2, 3), keepdim=True)
            matched = functional.normalize(pooled, dim=1).unflatten(0, (batch, count))
            first, second = matched[:, :-1].flatten(0, 1), matched[:, 1:].flatten(0, 1)
            motion = motion + estimate(correlation(first, second, RADIUS, step).float())
        motion = motion.unflatten(0, (batch, count - 1))
        # Rotations are small angles; translations are of the order of the initial motion.
        ahead = constant(motion, 0.0, 0.0, -self.advance)
        return _ROTATION * motion[..., :3], 0.5 * motion[..., 3:] + ahead


class _Motion(nn.Module):
    """Correlations [B, H, W, K, K] to the six numbers of a motion [B, 6]."""

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.turn = nn.Parameter(torch.tensor(_YAW_GAIN))
        self.reduce = _block((2 * RADIUS + 1) ** 2, 2 * width, 1)
        self.layers = nn.Sequential(
            _block(2 * width + 9, 4 * width, 1),
            _block(4 * width, 4 * width, 2),
            _block(4 * width, 4 * width, 1),
        )
        self.head = nn.Conv2d(4 * width, 6, 1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, correlations: Tensor) -> Tensor:
        volume = correlations.flatten(3)
        moved = displacement(correlations, self.sharpness) / RADIUS
        place = _positions(volume)
        # Forward motion moves pixels radially: displacement times position.
        products = (moved[..., :, None] * place[..., None, :]).flatten(3)
        planes = torch.cat([moved, products, place, volume.amax(3, keepdim=True)], dim=3)
        reduced = self.reduce(volume.permute(0, 3, 1, 2))
        x = self.layers(torch.cat([planes.permute(0, 3, 1, 2), reduced], dim=1))
        with torch.autocast(x.device.type, enabled=False):
            motion = self.head(x.float()).mean(dim=(2, 3))
            return motion + functional.pad(self._yaw(moved)[:, None], (1, 4))

    def _yaw(self, moved: Tensor) -> Tensor:
        """Yaw [B] in units of the output, from the mean lateral displacement of the upper half.

        Distant points, mostly in the upper half, are displaced by rotation alone. The photometric
        loss has a useful gradient only within a few pixels of the true rotation; turning at a
        junction displaces a frame by ten times that.
        """
        width = self.step * moved.shape[2] / RADIUS
        sideways = moved[:, : moved.shape[1] // 2, :, 0].mean(dim=(1, 2)) / width
        return self.turn / _ROTATION * sideways


def correlation(first: Tensor, second: Tensor, radius: int, step: int = 1) -> Tensor:
    """Scalar products of features with those around the same cell of another map.

    Args:
        first, second: [B, C, H, W]; H and W multiples of ``step``.
        radius: largest displacement in each direction; K = 2 · radius + 1.
        step: every step-th cell of ``first`` in both directions is matched.

    Returns:
        [B, H / step, W / step, K, K]: of ``first`` at (step · y, step · x) with ``second`` at
        (step · y + i - radius, step · x + j - radius), 0 outside of it.
    """
    height, width = first.shape[2:]
    k, places = 2 * radius + 1, width // step
    a = first[:, :, ::step, ::step].permute(0, 2, 3, 1)
    around = functional.pad(second, (radius,) * 4).permute(0, 2, 1, 3)
    rows = []
    for i in range(k):
        # One matrix product yields all pairs of a row; only the band about the diagonal is needed.
        # In rows longer by ``step`` the band becomes a block of columns.
        pairs = torch.matmul(a, around[:, i : i + height : step]).flatten(2)
        length = width + 2 * radius + step
        skewed = functional.pad(pairs, (0, step * places)).unflatten(2, (places, length))
        rows.append(skewed[..., :k])
    return torch.stack(rows, dim=3)


def displacement(correlations: Tensor, sharpness: Tensor | float) -> Tensor:
    """The mean (x, y) under a softmax of correlations [B, H, W, K, K], in cells: [B, H, W, 2]."""
    k = correlations.shape[-1]
    weights = (sharpness * correlations.flatten(3)).softmax(dim=3).unflatten(3, (k, k))
    steps = torch.arange(k, device=weights.device, dtype=weights.dtype) - k // 2
    return torch.stack([(weights.sum(3) * steps).sum(3), (weights.sum(4) * steps).sum(3)], dim=3)


def _positions(like: Tensor) -> Tensor:
    """x and y in [-1, 1], [B, H, W, 2]."""
    b, height, width, _ = like.shape
    y = torch.linspace(-1, 1, height, device=like.device)
    x = torch.linspace(-1, 1, width, device=like.device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).expand(b, -1, -1, -1)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
