"""The `FrameSource` of synthetic streets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cpcdr.frames.decode import decode_image, encode_jpeg
from cpcdr.frames.frame import Frame, FrameOptions, FrameRef
from cpcdr.frames.intrinsics import given_or_assumed
from cpcdr.frames.listing import Recording
from cpcdr.frames.protocols import get_protocol
from cpcdr.frames.stored import select_from
from cpcdr.frames.synthetic.street import build_street, render
from cpcdr.runtime.errors import FrameError, InputError

_KEYS = ("streets", "frames", "height", "width", "seed")


@dataclass(frozen=True)
class SyntheticStreet:
    """Rendered drives through procedural streets.

    A frame depends only on its sequence, its index and the source's settings, not on the order or
    process of reading.

    Attributes:
        options: field of view or intrinsics of the camera, stride and limit.
        frames: frames of each sequence, 0.4 to 0.9 m apart.
        height, width: size of the image in pixels.
        protocol: ``synthetic`` (Cityscapes' 7 categories) or ``synthetic-14`` (its classes).
    """

    spec: str = "synthetic:"
    options: FrameOptions = field(default_factory=FrameOptions)
    streets: int = 12
    frames: int = 16
    height: int = 128
    width: int = 256
    seed: int = 0
    protocol: str = "synthetic"
    intrinsics_note: str = field(default="given by the renderer", init=False)

    def __post_init__(self) -> None:
        least = {"streets": 1, "frames": 1, "height": 16, "width": 16, "seed": 0}
        for key, low in least.items():
            if getattr(self, key) < low:
                raise InputError(
                    f"{self.spec}: {key}={getattr(self, key)} is too small; give {low} or more."
                )

    @classmethod
    def parse(cls, argument: str, options: FrameOptions) -> SyntheticStreet:
        """Parse a source such as ``streets=4,frames=8,height=128,width=256,seed=3``.

        Args:
            argument: any of those keys with whole numbers, separated by commas; ``""`` for the
                defaults.

        Raises:
            InputError: an unknown key, or a value that is not a whole number or too small.
        """
        spec = f"synthetic:{argument}"
        values: dict[str, int] = {}
        for item in filter(None, (piece.strip() for piece in argument.split(","))):
            key, _, text = (piece.strip() for piece in item.partition("="))
            if key not in _KEYS or not text.isdecimal():
                raise InputError(
                    f"{spec}: {item!r} is not a setting of the synthetic street: give "
                    f"key=number with the keys {', '.join(_KEYS)}, such as streets=4,frames=8."
                )
            values[key] = int(text)
        return cls(spec, options, **values)  # type: ignore[arg-type]

    def refs(self) -> Sequence[FrameRef]:
        """Every frame that stride and limit keep, sorted by ``frame_id``."""
        streets = (Recording(self._name(k), range(self.frames)) for k in range(self.streets))
        return select_from(streets, self.options)

    def read(self, ref: FrameRef) -> Frame:
        """Render a frame: JPEG of quality 95, with exact disparity, pose and labels.

        Raises:
            FrameError: the frame does not exist.
        """
        number = ref.sequence.rpartition("-")[2]
        listed = number.isdecimal() and ref.sequence == self._name(int(number))
        if not listed or int(number) >= self.streets or not 0 <= ref.frame_index < self.frames:
            raise FrameError(f"{self.spec} has no frame {ref.frame_id}: use one that it lists.")
        size = (self.height, self.width)
        intrinsics = given_or_assumed(self.options, size)
        street = build_street(self.seed, int(number), self.frames)
        noise_seed = self.seed * 1_000_003 + int(number)
        rendered = render(street, ref.frame_index, intrinsics, size, noise_seed)
        encoded = encode_jpeg(rendered.image)
        return Frame(
            ref=ref,
            encoded=encoded,
            image=decode_image(encoded, ref.frame_id),
            intrinsics=intrinsics.astype(np.float32),
            source=self.spec,
            labels=get_protocol(self.protocol).train_ids(rendered.labels, ref.frame_id),
            disparity=rendered.disparity,
            pose=rendered.pose,
        )

    def _name(self, number: int) -> str:
        return f"street-{self.seed:03d}-{number:03d}"
