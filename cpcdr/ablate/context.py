"""The context test: are the features of a car independent of its surroundings?

Cars are cut out of evaluation frames with their masks from the label map and pasted, unchanged,
into k other scenes. They keep their row and size, which preserves the perspective, and move to the
nearest column where they stand on the road and cover no other car. Shifts are multiples of the
stride, so that the network samples every copy alike. For car j in scene s let f_js be the mean of
the L2-normalised features over the car's inner cells, and b_js the mean over the same cells of the
scene without the car. Then

    moves   = mean over cars j and scenes s != t of  1 - cos(f_js, f_jt)
    apart   = mean over cars j and scenes s != t of  1 - cos(f_js, b_jt)
    context = moves / apart

0: a car's features do not depend on its surroundings. 1: another scene changes them as much as
removing the car does. The ratio keeps two kinds of untrained networks from scoring well: collapsed
ones, where all distances vanish together, and those whose features encode only the position in the
image, where car and background have equal features (f = b, hence 1).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cpcdr.ablate.labelled import LabelledFrames
from cpcdr.frames.pick import spread
from cpcdr.model.segmentation import SegmentationNetwork
from cpcdr.runtime.device import to_unit_float

OBJECTS, GROUND = ("car", "vehicle", "vehicles"), ("road", "flat", "drivable")
"""Names of the classes that are pasted, and that they must stand on, in the protocols."""

_STRIDE = 4
_AREA = (0.01, 0.08)  # fraction of the image: clearly visible, but not filling it
_FILLED, _ASPECT = 0.6, (0.8, 3.5)  # of the bounding box: one car, not a row of parked ones
_ON_GROUND = 0.8  # fraction of the strip below the car that must be ground
_INSIDE = 0.75  # fraction of a feature cell that the mask must cover
_COVERED = 0.1  # fraction of the car that may cover another one


@dataclass(frozen=True, eq=False)
class ContextTest:
    """P copies of objects, each pasted into one of S scenes.

    Attributes:
        images: uint8 [P, H, W, 3].
        masks: bool [P, H, W], the pasted pixels.
        objects: int64 [P], index of the object.
        places: int64 [P], index of the scene.
        scenes: uint8 [S, H, W, 3], the scenes without pastes.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: NDArray[np.int64]
    places: NDArray[np.int64]
    scenes: NDArray[np.uint8]


@dataclass(frozen=True)
class ContextScore:
    """Cosine distances in 0..2; see the module."""

    moves: float
    apart: float

    @property
    def context(self) -> float:
        """``moves / apart``; NaN if all features are equal."""
        return self.moves / self.apart if self.apart > 1e-7 else float("nan")


def make_context_test(frames: LabelledFrames, objects: int, scenes: int) -> ContextTest | None:
    """Paste up to ``objects`` cars into up to ``scenes`` frames that provide none of the cars.

    Returns:
        None if the frames have no suitable car, or no road to place it on.
    """
    classes = frames.protocol.classes
    thing = next((classes.index(name) for name in OBJECTS if name in classes), None)
    ground = next((classes.index(name) for name in GROUND if name in classes), None)
    if thing is None or ground is None:
        return None
    cars = _cars(frames, thing)[:objects]
    own = {index for index, _ in cars}
    others = [i for i in range(len(frames)) if i not in own]
    chosen = [others[i] for i in spread(len(others), scenes)]
    images, masks, numbers, places = [], [], [], []
    for number, (index, mask) in enumerate(cars):
        found = [find_place(mask, frames.labels[s], thing, ground) for s in chosen]
        possible = [(k, shift) for k, shift in enumerate(found) if shift is not None]
        for k, shift in possible if len(possible) > 1 else []:
            there = np.roll(mask, shift, 1)
            car = np.roll(frames.images[index], shift, 1)
            images.append(np.where(there[..., None], car, frames.images[chosen[k]]))
            masks.append(there)
            numbers.append(number)
            places.append(k)
    if not images:
        return None
    return ContextTest(
        np.stack(images),
        np.stack(masks),
        np.array(numbers),
        np.array(places),
        np.array(frames.images[chosen]),
    )


def _cars(frames: LabelledFrames, thing: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """The largest suitable object of each frame as (frame, mask), in descending order of size."""
    found = []
    for index in range(len(frames)):
        mask = np.asarray(frames.labels[index] == thing)
        masks = suitable(mask)
        if masks:
            found.append((index, max(masks, key=np.count_nonzero)))
    return sorted(found, key=lambda pair: -np.count_nonzero(pair[1]))


def suitable(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Connected components of a mask [H, W] that look like one whole car of a useful size."""
    height, width = mask.shape
    count, ids, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    masks = []
    for k in range(1, count):
        left, top, w, h, area = (int(v) for v in stats[k])
        whole = left > 0 and top > 0 and left + w < width and top + h < height
        sized = _AREA[0] <= area / mask.size <= _AREA[1]
        shaped = area >= _FILLED * w * h and _ASPECT[0] <= w / h <= _ASPECT[1]
        if whole and sized and shaped:
            masks.append(ids == k)
    return masks


def find_place(
    mask: NDArray[np.bool_], labels: NDArray[np.uint8], thing: int, ground: int
) -> int | None:
    """How many columns to shift an object so that it stands on the ground of another scene.

    Args:
        mask: bool [H, W], touching no border.
        labels: uint8 [H, W] of the scene.

    Returns:
        the smallest shift, a multiple of the stride; None if the object fits nowhere.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    first, last, bottom = int(columns[0]), int(columns[-1]), int(rows[-1])
    below = (labels[bottom + 1 : bottom + 4] == ground).mean(0)
    shape, occupied = mask[:, first : last + 1], labels == thing

    def fits(shift: int) -> bool:
        there = slice(first + shift, last + 1 + shift)
        covered = occupied[:, there][shape].mean()
        return bool(below[there].mean() >= _ON_GROUND and covered <= _COVERED)

    shifts = range(-(first // _STRIDE) * _STRIDE, mask.shape[1] - last, _STRIDE)
    return min(filter(fits, shifts), key=lambda s: (abs(s), s), default=None)


@torch.inference_mode()
def context_score(network: SegmentationNetwork, test: ContextTest) -> ContextScore:
    """Distances of the pasted objects' features between scenes, and from the empty scenes."""
    device = next(network.parameters()).device

    def features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        parts = []
        for chunk in np.array_split(images, -(-len(images) // 8)):
            pixels = to_unit_float(torch.from_numpy(chunk).to(device))
            parts.append(functional.normalize(network(pixels), dim=1).double().cpu().numpy())
        return np.concatenate(parts)

    pasted, scenes = features(test.images), features(test.scenes)[test.places]
    cells = [inner_cells(mask, pasted.shape[-2:]) for mask in test.masks]
    cars, grounds = (
        np.stack([f[:, cell].mean(1) for f, cell in zip(part, cells, strict=True)])
        for part in (pasted, scenes)
    )
    return ContextScore(
        between_scenes(cars, cars, test.objects), between_scenes(cars, grounds, test.objects)
    )


def inner_cells(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells of a grid [h, w] that a mask [H, W] covers; the most covered ones if it covers none."""
    covered = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(covered >= min(_INSIDE, covered.max()))


def between_scenes(
    first: NDArray[np.float64], second: NDArray[np.float64], objects: NDArray[np.int64]
) -> float:
    """The mean over objects of the mean cosine distance between two of their different scenes.

    Args:
        first: [P, C], the feature of paste p's object in its scene.
        second: [P, C], what it is compared with there.
        objects: int64 [P]; each object has at least two scenes.
    """
    distance = cosine_distance(first, second)
    means = []
    for number in np.unique(objects):
        mine = distance[np.ix_(objects == number, objects == number)]
        means.append(mine[~np.eye(len(mine), dtype=bool)].mean())
    return float(np.mean(means))


def cosine_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - cosine of every pair: [P, C], [Q, C] -> [P, Q]."""
    a, b = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (first, second)
    )
    return 1.0 - a @ b.T


def save_context_test(test: ContextTest, path: Path) -> None:
    """Write the test as ``.npz``, atomically."""
    temporary = path.with_name(f".{path.name}.partial.npz")
    np.savez_compressed(temporary, **vars(test))
    temporary.replace(path)


def load_context_test(path: Path) -> ContextTest | None:
    """Read what `save_context_test` wrote; None if there is no file."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return ContextTest(**{name: stored[name] for name in stored.files})
