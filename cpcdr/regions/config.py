"""Configuration of coherent depth regions."""

from __future__ import annotations

from dataclasses import dataclass

from cpcdr.runtime.errors import InputError

_LEAST_PIXELS = 6  # of a superpixel: fewer show neither a colour nor a slope of depth


@dataclass(frozen=True)
class RegionConfig:
    """Segmentation of frames into coherent depth regions.

    Attributes:
        superpixels: number in a frame of any size, up to 32767 (ids fit a 16-bit PNG) and at most
            one for every 6 pixels.
        compactness: SLIC's weight of distance relative to colour; larger is more square.
        sigma: Gaussian blur before SLIC, in pixels.
        plane_weight: weight in d of disparity off the neighbour's plane, in units of its
            uncertainty.
        colour_weight: weight in d of the distance of mean CIELAB colours, in units of 10.
        centre_weight: weight in d of the distance of 3D centres relative to their depth, the
            paper's term.
        gain: slope of the edge dissimilarity w = sigmoid(gain * d - bias).
        bias: offset of the dissimilarity: sigmoid(-bias) at distance 0.
        separation: communities with a mean dissimilarity below this along their border may merge;
            larger values yield fewer and larger regions.
        min_superpixels: regions of fewer superpixels join the neighbour that differs least.
        preferred_modules: preferred number of communities at every level of clustering, with a
            penalty of one bit of code length per community more or less; 0 for none. The penalty
            exceeds the gain of any single community: 10 yields about ten regions per frame that cut
            across objects.
        seed: of the order in which clustering visits superpixels.
    """

    superpixels: int = 5000
    compactness: float = 5.0
    sigma: float = 1.0
    plane_weight: float = 1.0
    colour_weight: float = 2.0
    centre_weight: float = 0.0
    gain: float = 2.0
    bias: float = 4.0
    separation: float = 0.028
    min_superpixels: int = 10
    preferred_modules: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.superpixels < 1 or self.compactness <= 0 or self.sigma < 0:
            raise InputError("superpixels and compactness must be positive, sigma at least 0.")
        if not 0.0 <= self.separation <= 1.0:
            raise InputError(f"separation {self.separation} must lie in 0..1.")
        if min(self.preferred_modules, self.min_superpixels) < 0:
            raise InputError("preferred_modules and min_superpixels must be at least 0.")
        if min(self.plane_weight, self.colour_weight, self.centre_weight) < 0:
            raise InputError("plane_weight, colour_weight, centre_weight must be at least 0.")

    @staticmethod
    def presets() -> dict[str, RegionConfig]:
        """``default``, and ``paper``: the dissimilarity and constants of the released code."""
        paper = RegionConfig(
            superpixels=10000,
            compactness=10.0,
            plane_weight=0.0,
            colour_weight=0.0,
            centre_weight=1.0,
            gain=48.0,
            separation=0.20,
            min_superpixels=0,
        )
        return {"default": RegionConfig(), "paper": paper}

    def superpixel_count(self, height: int, width: int) -> int:
        """Number of superpixels for a frame of this size."""
        return max(1, min(self.superpixels, height * width // _LEAST_PIXELS, 32767))
