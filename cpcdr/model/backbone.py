"""What a backbone is: a module from normalised images to feature maps of strides 4, 8, 16, 32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.runtime.errors import InputError

STRIDES = (4, 8, 16, 32)
"""Of the feature maps that the network reads."""
_COARSEST = STRIDES[-1]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the channels of an image in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Images [..., 3, H, W] in [0, 1] as the backbone takes them."""
        if len({*self.mean}) == len({*self.std}) == 1:
            return (images - self.mean[0]) / self.std[0]
        mean, std = (
            torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (images - mean) / std


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of torchvision's networks, and of modules that do not say."""


class Backbone(nn.Module):
    """Normalised images [B, 3, H, W] -> maps [B, C, ceil(H / stride), ceil(W / stride)].

    Attributes:
        channels: of each feature map, finest first.
        strides: of each feature map, 4, 8, 16 and 32 among them.
        normalisation: of its images.
    """

    channels: list[int]
    strides: list[int]
    normalisation: Normalisation


class FeatureMaps(Backbone):
    """Any module that yields feature maps, as a backbone.

    Channels and strides are measured. Of several maps of a stride the last is taken. Where a
    module would cut off what is left of an image beyond whole strides, the image is continued to
    the right and below by its last pixels, and the maps are cut to size.

    Args:
        body: images -> list of maps, or mapping with such values.
        name: of the backbone, for errors.
        neck: new layers above the body, which make its maps ones of all strides.

    Raises:
        InputError: it has no maps of strides 4, 8, 16 and 32.
    """

    def __init__(
        self,
        body: nn.Module,
        normalisation: Normalisation,
        name: str,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.normalisation = body, normalisation
        if neck is not None:
            self.neck = neck
        self.strides = list(STRIDES)
        self._index, self.channels = self._measure(name)
        self.multiple = 1 if self._fits((_COARSEST + 1, _COARSEST + 1)) else _COARSEST

    def maps(self, images: Tensor) -> list[Tensor]:
        """All maps, before they are chosen and cut to size."""
        maps = self.body(images)
        return list(maps.values() if isinstance(maps, Mapping) else maps)

    def steps(self, images: Tensor) -> list[Tensor]:
        """What the body computes from the weights of its first stage, of the first two, ..."""
        return self._chosen(images)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [B, 3, H, W] -> maps of strides 4, 8, 16, 32."""
        height, width = images.shape[-2:]
        if self.multiple == 1:
            return self._chosen(images)
        whole = [cells(side, self.multiple) * self.multiple for side in (height, width)]
        right, below = whole[1] - width, whole[0] - height
        padded = functional.pad(images, (0, right, 0, below), mode="replicate")
        return [
            x[..., : cells(height, stride), : cells(width, stride)]
            for x, stride in zip(self._chosen(padded), STRIDES, strict=True)
        ]

    def _chosen(self, images: Tensor) -> list[Tensor]:
        """The maps of strides 4, 8, 16, 32."""
        maps = self.maps(images)
        return [maps[i] for i in self._index]

    def _measure(self, name: str) -> tuple[list[int], list[int]]:
        """Which maps have the strides 4, 8, 16, 32, and their channels."""
        height, width = 2 * _COARSEST, 3 * _COARSEST
        try:
            maps = _trial(self, (height, width))
        except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError) as error:
            text = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"backbone {name}: does not map images of any size to a list of feature maps "
                f"({text}); give another --model.backbone."
            ) from error
        last = {tuple(m.shape[-2:]): i for i, m in enumerate(maps) if isinstance(m, Tensor)}
        index = [last.get((height // s, width // s)) for s in STRIDES]
        if None in index:
            shapes = ", ".join(str(tuple(m.shape[1:])) for m in maps) or "none"
            raise InputError(
                f"backbone {name}: an image of 3x{height}x{width} has maps {shapes}, not of each "
                "of the strides 4, 8, 16 and 32; give another --model.backbone."
            )
        found = [i for i in index if i is not None]
        return found, [maps[i].shape[1] for i in found]

    def _fits(self, size: tuple[int, int]) -> bool:
        """Whether nothing of an image of this size is cut off."""
        try:
            maps = _trial(self, size)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
            return False
        wanted = [tuple(cells(side, s) for side in size) for s in STRIDES]
        return [tuple(maps[i].shape[-2:]) for i in self._index] == wanted


def cells(side: int, stride: int) -> int:
    """Cells of a stride that cover a side. ONNX rounds quotients towards 0: no negative numbers.

    >>> cells(64, 32), cells(65, 32)
    (2, 3)
    """
    return (side + stride - 1) // stride


def stages_of(backbone: Backbone) -> list[list[str]]:
    """Names of the parameters of the four stages of a backbone, in the order of computation.

    A parameter belongs to the first map that depends on it. What no map depends on, new layers
    above a vision transformer, and what is frozen belong to none.
    """
    named = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    with _evaluating(backbone), torch.enable_grad():
        images = _zeros(backbone, (2 * _COARSEST, 2 * _COARSEST))
        steps = _steps(backbone, images)
        stages: list[list[str]] = []
        left = list(named)
        for step in steps:
            if not left or not step.requires_grad:
                stages.append([])
                continue
            gradients = torch.autograd.grad(
                step.sum(), [named[n] for n in left], retain_graph=True, allow_unused=True
            )
            used = {n for n, g in zip(left, gradients, strict=True) if g is not None}
            stages.append([n for n in left if n in used])
            left = [n for n in left if n not in used]
    return stages


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every part has its own mode again, frozen or not."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _steps(backbone: Backbone, images: Tensor) -> list[Tensor]:
    if isinstance(backbone, FeatureMaps):
        return backbone.steps(images)
    maps = backbone(images)
    return [maps[backbone.strides.index(stride)] for stride in STRIDES]


def _trial(backbone: FeatureMaps, size: tuple[int, int]) -> list[Tensor]:
    with _evaluating(backbone), torch.no_grad():
        return backbone.maps(_zeros(backbone, size))


def _zeros(module: nn.Module, size: tuple[int, int]) -> Tensor:
    device = next((p.device for p in module.parameters()), None)
    return torch.zeros(1, 3, *size, device=device)
