"""What a dataset looks like: images, disparity and regions side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cpcdr.dataset import PreparedDataset
from cpcdr.frames.pick import spread
from cpcdr.visualize.pictures import colour_disparity, colour_regions, contact_sheet


def dataset_sheet(dataset: PreparedDataset, frames: int = 4) -> NDArray[np.uint8]:
    """A contact sheet of frames spread over the dataset: uint8 [H, W, 3]."""
    rows, names = [], []
    for sample in dataset.samples(spread(len(dataset), frames)):
        regions = colour_regions(sample.regions, sample.image)
        rows.append([sample.image, colour_disparity(sample.disparity), regions])
        names.append(f"{sample.frame_id}, {int(sample.regions.max()) + 1} regions")
    return contact_sheet(rows, ["frame", "disparity", "coherent depth regions"], names)
