"""Configuration of coherent depth regions."""

from dataclasses import dataclass

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class RegionConfig:
    """Segmentation of frames into coherent depth regions.

    Attributes:
        superpixels: number for a 384x768 frame, 29.5 pixels each; other sizes keep the superpixel
            area, up to 32767 superpixels (ids fit a 16-bit PNG).
        compactness: SLIC's weight of distance relative to colour; larger is more square.
        sigma: Gaussian blur before SLIC, in pixels.
        gain: slope of the edge dissimilarity w = sigmoid(gain * d - bias).
        bias: offset of the dissimilarity: sigmoid(-bias) at distance 0.
        separation: communities with a mean dissimilarity below this along their border may merge;
            larger values yield fewer and larger regions.
        preferred_modules: preferred number of communities at every level of clustering, with a
            penalty of one bit of code length per community more or less; 0 for none. The penalty
            exceeds the gain of any single community: 10 yields about ten regions per frame that cut
            across objects.
        colour_weight: weight in d of the distance of mean CIELAB colours / 100.
        plane_weight: weight in d of the distance of superpixel centres from each other's plane,
            relative to depth.
        seed: of the order in which clustering visits superpixels.
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
        """Number of superpixels for a frame of this size."""
        return min(max(1, round(self.superpixels * height * width / (384 * 768))), 32767)
