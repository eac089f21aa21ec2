"""How regions are pasted, and how pastes and mixed images vary."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class ColourConfig:
    """How colours vary, of a pasted region or of a whole mixed image.

    Attributes:
        jitter: largest relative change of brightness, contrast and saturation, and the largest hue
            shift in turns of the colour circle.
        jitter_probability: share of sprites (or images) that are jittered.
        blur_probability: share that is blurred.
        blur_sigma: range of the Gaussian's sigma, pixels at a frame height of 384.
        grey_probability: share that loses its colour.
    """

    jitter: tuple[float, float, float, float] = (0.5, 0.5, 0.5, 0.2)
    jitter_probability: float = 0.8
    blur_probability: float = 0.2
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    grey_probability: float = 0.1

    def __post_init__(self) -> None:
        for name in ("jitter_probability", "blur_probability", "grey_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} {getattr(self, name)} must lie in 0..1.")
        if min(self.jitter) < 0.0 or max(self.jitter[:3]) > 1.0 or self.jitter[3] > 0.5:
            raise InputError(
                f"jitter {self.jitter}: give three numbers in 0..1 and a hue in 0..0.5."
            )
        if not 0.0 <= self.blur_sigma[0] <= self.blur_sigma[1] <= 8.0:
            raise InputError(f"blur_sigma {self.blur_sigma} must be an ascending range in 0..8.")


@dataclass(frozen=True)
class ViewConfig:
    """Augmentation of each mixed image.

    Attributes:
        zoom: range of the magnification, uniform, at least 1; the frame's size is cropped from it.
        flip: probability of a mirror image.
        colour: jitter, blur and grey of the whole image.
    """

    zoom: tuple[float, float] = (1.0, 2.0)
    flip: float = 0.5
    colour: ColourConfig = field(default_factory=ColourConfig)

    def __post_init__(self) -> None:
        if not 1.0 <= self.zoom[0] <= self.zoom[1]:
            raise InputError(f"view zoom {self.zoom} must be an ascending range from at least 1.")
        if not 0.0 <= self.flip <= 1.0:
            raise InputError(f"view flip {self.flip} must lie in 0..1.")


@dataclass(frozen=True)
class CopyPasteConfig:
    """Copy-paste of coherent depth regions. Pixel counts hold at a frame height of 384.

    Attributes:
        enabled: False makes the same number of mixed images without any paste: the originals under
            independent augmentations.
        pastes: pastes of each region in each round; a round makes one mixed image per frame.
        min_height: lower regions are not pasted.
        min_width: narrower regions are not pasted.
        min_side: regions below it in height and in width are not pasted.
        frame_margin: regions that fill the frame to within this margin both ways are not pasted.
        scale: range of a paste's scale, uniform in 1/scale.
        min_pasted: a paste's scale is raised until both sides have this many pixels.
        max_pasted: a paste is at most this many frames high and wide.
        vertical_jitter: largest vertical displacement from the place that the scale implies.
        flip: probability of a mirrored paste.
        colour: jitter, blur and grey of each paste.
        view: augmentation of each mixed image.
    """

    enabled: bool = True
    pastes: tuple[int, ...] = (2, 4)
    min_height: float = 16.0
    min_width: float = 6.0
    min_side: float = 32.0
    frame_margin: float = 16.0
    scale: tuple[float, float] = (0.2, 2.0)
    min_pasted: float = 8.0
    max_pasted: float = 2.0
    vertical_jitter: float = 16.0
    flip: float = 0.5
    colour: ColourConfig = field(default_factory=ColourConfig)
    view: ViewConfig = field(default_factory=ViewConfig)

    def __post_init__(self) -> None:
        if not self.pastes or min(self.pastes) < 0 or self.appearances > 255:
            raise InputError(f"pastes {self.pastes}: give one number >= 0 per round, 200 in all.")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale {self.scale} must be an ascending range above 0.")
        if not 0.0 <= self.flip <= 1.0:
            raise InputError(f"flip {self.flip} must lie in 0..1.")
        if self.min_pasted <= 0.0 or self.max_pasted <= 0.0 or self.vertical_jitter < 0.0:
            raise InputError(
                "min_pasted and max_pasted must be above 0, vertical_jitter at least 0."
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Pastes of each region in each round; zeros when switched off."""
        return self.pastes if self.enabled else (0,) * len(self.pastes)

    @property
    def appearances(self) -> int:
        """Appearances of a region in its item: one original per round, and its pastes."""
        return len(self.counts) + sum(self.counts)
