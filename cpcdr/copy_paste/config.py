"""Configuration of copy-paste and of the augmentation of pastes and mixed images."""

from dataclasses import dataclass, field

from cpcdr.runtime.errors import InputError


@dataclass(frozen=True)
class ColourConfig:
    """Colour augmentation of a pasted region or a whole mixed image.

    Attributes:
        jitter: largest relative change of brightness, contrast and saturation, and the largest hue
            shift as a fraction of the colour circle.
        jitter_probability: probability of jitter per paste or image.
        blur_probability: probability of Gaussian blur.
        blur_sigma: range of the blur's sigma, in pixels at a frame height of 384.
        grey_probability: probability of conversion to grey.
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
        zoom: range of the uniform magnification, at least 1; a crop of the frame's size is taken.
        flip: probability of a horizontal flip.
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
        pastes: pastes per region in each round; a round renders one mixed image per frame.
        min_height: least height of a pasted region.
        min_width: least width of a pasted region.
        min_side: regions below this in both height and width are not pasted.
        frame_margin: regions that fill the frame up to this margin in both directions are not
            pasted.
        scale: range of a paste's scale, uniform in 1/scale.
        min_pasted: least side of a paste; smaller ones are scaled up to it.
        max_pasted: largest height and width of a paste, in frames.
        vertical_jitter: largest vertical displacement from the position that the scale implies.
        flip: probability of a horizontally flipped paste.
        colour: jitter, blur and grey of each paste.
        view: augmentation of each mixed image.
    """

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
            raise InputError(f"pastes {self.pastes}: give one number >= 0 per round, 200 in total.")
        if not 0.0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale {self.scale} must be an ascending range above 0.")
        if not 0.0 <= self.flip <= 1.0:
            raise InputError(f"flip {self.flip} must lie in 0..1.")
        if self.min_pasted <= 0.0 or self.max_pasted <= 0.0 or self.vertical_jitter < 0.0:
            raise InputError(
                "min_pasted and max_pasted must be above 0, vertical_jitter at least 0."
            )

    @property
    def appearances(self) -> int:
        """Appearances of a region in its item: one original per round, and its pastes."""
        return len(self.pastes) + sum(self.pastes)
