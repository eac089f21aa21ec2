from pathlib import Path

import cv2
import numpy as np
import pytest

from cpcdr.evaluate.baselines import colour_position, fit_colour_position
from cpcdr.evaluate.confusion import confusion
from cpcdr.evaluate.matching import match, scores
from cpcdr.runtime.errors import InputError

CAMVID = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "camvid" / "clip"


def flag(height=40, width=60):
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = (90, 140, 230)
    image[height // 2 :, : width // 2] = (60, 60, 60)
    image[height // 2 :, width // 2 :] = (40, 120, 30)
    labels = np.zeros((height, width), np.uint8)
    labels[height // 2 :, : width // 2] = 1
    labels[height // 2 :, width // 2 :] = 2
    return image, labels


def test_flat_colours_are_separated_at_any_size():
    image, labels = flag()
    model = fit_colour_position([image, flag(50, 70)[0]], 3, seed=0)
    predicted = model.segment(image[None])[0]
    assert predicted.shape == labels.shape
    table = confusion(predicted, labels, 3, 3)
    assert scores(match(table).fold(table)).miou == 1.0


def test_predictions_are_the_nearest_centres_and_seeded():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    model = fit_colour_position([image], 5, seed=7)
    features = colour_position(image) * model.scale
    distance = np.linalg.norm(features[..., None, :] - model.centres, axis=-1)
    np.testing.assert_array_equal(model.segment(image[None])[0], distance.argmin(-1))
    again = fit_colour_position([image], 5, seed=7)
    np.testing.assert_array_equal(model.centres, again.centres)


def test_grey_images_have_no_colour_to_divide_by():
    image = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, 3, axis=2)
    assert len(np.unique(fit_colour_position([image], 3).segment(image[None])[0])) == 3


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="at least one frame"):
        fit_colour_position([], 3)
    with pytest.raises(InputError, match="4 pixels cannot form 5"):
        fit_colour_position([np.zeros((2, 2, 3), np.uint8)], 5)


@pytest.mark.slow
def test_camvid_baseline_is_far_from_solved():
    """The score that an unsupervised network has to exceed, on every tenth frame."""
    files = sorted((CAMVID / "images").glob("*.png"))[::10]
    if not files:
        pytest.skip("CamVid clip absent")
    images = [cv2.imread(str(f))[..., ::-1] for f in files]
    model = fit_colour_position(images, 11, seed=0)
    table = np.zeros((11, 11), np.int64)
    for file, image in zip(files, images, strict=True):
        labels = cv2.imread(str(CAMVID / "labels" / file.name), cv2.IMREAD_GRAYSCALE)
        labels[labels == 11] = 255
        table += confusion(model.segment(image[None])[0], labels, 11, 11)
    assert 0.12 < scores(match(table).fold(table)).miou < 0.35
