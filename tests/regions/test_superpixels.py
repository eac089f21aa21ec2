import numpy as np
import pytest
from reference_superpixels import nearest_centres
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as components
from skimage.segmentation import find_boundaries, slic

from cpcdr.regions.superpixels import _nearest_centres, superpixels


def street(height=192, width=384, seed=0):
    """Overlapping coloured boxes and discs with noise: an image and the map of its objects."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width]
    objects = np.zeros((height, width), int)
    for k in range(1, 40):
        y, x, r = rng.integers(0, height), rng.integers(0, width), rng.integers(6, 40)
        near = (np.hypot(v - y, u - x) if k % 2 else np.maximum(abs(v - y), abs(u - x))) < r
        objects[near] = k
    image = rng.integers(30, 226, (40, 3))[objects] + rng.normal(0, 8, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8), objects


def leakage(ids, objects):
    """Fraction of pixels outside their superpixel's majority object."""
    table = np.zeros((int(ids.max()) + 1, objects.max() + 1))
    np.add.at(table, (ids.ravel().astype(int), objects.ravel()), 1)
    return 1 - table.max(axis=1).sum() / ids.size


def border_recall(ids, objects):
    border = find_boundaries(objects, mode="inner")
    dilated = binary_dilation(find_boundaries(ids, mode="inner"), np.ones((3, 3)))
    return (dilated & border).sum() / border.sum()


def test_leakage_and_recall_on_par_with_scikit_image():
    image, objects = street()
    theirs = slic(image, n_segments=2500, compactness=10, sigma=1, start_label=0)
    ours = superpixels(image, 2600).astype(int)
    assert ours.max() == pytest.approx(theirs.max(), rel=0.1)
    assert leakage(ours, objects) <= leakage(theirs, objects)
    assert border_recall(ours, objects) >= border_recall(theirs, objects) - 0.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (5, 6), (37, 53), (128, 256)])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_ids_are_contiguous_and_connected(shape, count):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ids = superpixels(image, count)
    present = np.unique(ids)
    assert ids.dtype == np.uint16 and np.array_equal(present, np.arange(len(present)))
    assert len(present) <= 4 * count + 1
    assert all(components(ids == i)[1] == 1 for i in present)


def test_a_plain_image_becomes_a_grid_of_about_count():
    ids = superpixels(np.full((384, 768, 3), 90, np.uint8), 10000).astype(int)
    assert ids.max() + 1 == pytest.approx(10000, rel=0.02)
    assert np.bincount(ids.ravel()).max() <= 2 * 29.5


@pytest.mark.parametrize(
    ("shape", "grid"), [((96, 192), (20, 41)), ((61, 37), (5, 3)), ((7, 300), (1, 60))]
)
def test_whole_rows_at_once_find_the_centres_of_single_pixels(shape, grid):
    random = np.random.default_rng(3)
    lab = np.cumsum(random.normal(0, 3, (*shape, 3)), axis=1).astype(np.float32)
    spatial = np.float32(0.4)
    expected = nearest_centres(lab, *grid, spatial)
    found = _nearest_centres(np.ascontiguousarray(lab.swapaxes(1, 2)), *grid, spatial)
    assert len(np.unique(expected)) > 0.5 * grid[0] * grid[1]
    # Sums of floats in another order move a centre by its last digit, and few pixels with it.
    assert (found != expected).mean() < 1e-3
