"""How frames are cut into regions."""

from __future__ import annotations

from dataclasses import dataclass

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class RegionConfig:
    """How frames are cut into coherent depth regions.

    Attributes:
        superpixels: superpixels of a 384x768 frame; other sizes get as many as keeps a superpixel's
            area, 29.5 pixels, up to 32767 (so that ids fit a 16-bit PNG).
        compactness: SLIC's weight of distance against colour; larger is squarer.
        sigma: Gaussian blur before SLIC in pixels.
        gain: slope of the edge dissimilarity w = sigmoid(gain * d - bias).
        bias: offset of it; w = sigmoid(-bias) between superpixels in the same place.
        separation: communities whose mean dissimilarity w along their border is below this may
            still merge; larger gives fewer and larger regions.
        preferred_modules: draws every level of clustering to this number of communities, one bit of
            code length for each too many or too few; 0 for as many as the map equation finds.
            The penalty dwarfs the gain of any single community: 10, for one, yields ten regions a
            frame that cut across objects.
        colour_weight: adds this times the distance of mean CIELAB colours / 100 to d.
        plane_weight: adds this times the distance of each superpixel's centre from the plane
            through the other, relative to depth as d is.
        seed: order in which the clustering visits superpixels.
    """

    superpixels: int = 10000
    compactness: float = 10.0
    sigma: float = 1.0
    gain: float = 48.0
    bias: float = 4.0
    separation: float = 0.20
    preferred_modules: int = 0
    colour_weight: float = 0.0
    plane_weight: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.superpixels < 1 or self.compactness <= 0 or self.sigma < 0:
            raise InputError("superpixels and compactness must be positive, sigma at least 0.")
        if not 0.0 <= self.separation <= 1.0:
            raise InputError(f"separation {self.separation} must lie in 0..1.")
        if min(self.preferred_modules, self.colour_weight, self.plane_weight) < 0:
            raise InputError("preferred_modules, colour_weight, plane_weight must be at least 0.")

    def superpixel_count(self, height: int, width: int) -> int:
        """Superpixels to ask for in a frame of this size."""
        return min(max(1, round(self.superpixels * height * width / (384 * 768))), 32767)
