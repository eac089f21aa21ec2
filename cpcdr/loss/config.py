"""Settings of the loss."""

from dataclasses import dataclass

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class LossConfig:
    """The swapped-prediction loss; defaults are the released code's constants.

    Attributes:
        pixel_points: random points per image whose appearances are pixel positives.
        region_points: random points per image that are positives within their region.
        pixel_weight: weight of the pixel loss.
        region_weight: weight of the region loss.
        temperature: of the prediction's softmax.
        epsilon: of Sinkhorn.
        sinkhorn_iterations: rounds of Sinkhorn.
    """

    pixel_points: int = 4000
    region_points: int = 7200
    pixel_weight: float = 0.5
    region_weight: float = 0.5
    temperature: float = 0.1
    epsilon: float = 0.05
    sinkhorn_iterations: int = 3

    def __post_init__(self) -> None:
        for name in ("temperature", "epsilon"):
            if not getattr(self, name) > 0.0:
                raise InputError(f"{name} {getattr(self, name)} must be above 0.")
        for name in ("pixel_points", "region_points", "sinkhorn_iterations"):
            if getattr(self, name) < (least := int(name == "sinkhorn_iterations")):
                raise InputError(f"{name} {getattr(self, name)} must be at least {least}.")
