import numpy as np
import pytest

from cpcdr.evaluate.bootstrap import miou_interval
from cpcdr.evaluate.matching import match, scores
from cpcdr.runtime.errors import InputError


def tables(frames=30, spread=0.1, clusters=5, classes=4):
    random = np.random.default_rng(0)
    confusions = []
    for _ in range(frames):
        right = np.clip(0.7 + spread * random.normal(), 0.05, 0.95)
        chance = np.full((clusters, classes), (1 - right) / clusters)
        chance[np.arange(classes), np.arange(classes)] += right
        confusions.append(np.round(1000 * chance))
    return np.array(confusions).astype(np.int64)


def test_the_interval_holds_the_score_and_grows_with_the_spread():
    widths = []
    for spread in (0.02, 0.15):
        confusions = tables(spread=spread)
        whole = match(confusions.sum(0))
        interval = miou_interval(confusions, whole, seed=1)
        assert interval["low"] < scores(whole.fold(confusions.sum(0))).miou < interval["high"]
        assert interval == miou_interval(confusions, whole, seed=1)
        widths.append(interval["high"] - interval["low"])
    assert widths[0] < widths[1] / 3


def test_agrees_with_a_plain_loop_over_resampled_sets():
    confusions = tables(frames=12)
    whole = match(confusions.sum(0))
    random = np.random.default_rng(5)
    mious = [
        scores(whole.fold(confusions[random.integers(0, 12, 12)].sum(0))).miou for _ in range(2000)
    ]
    interval = miou_interval(confusions, whole, samples=2000, level=0.9)
    np.testing.assert_allclose(
        (interval["low"], interval["high"]), np.quantile(mious, [0.05, 0.95]), atol=0.01
    )


def test_frames_without_labels_change_only_the_resampling():
    confusions = np.concatenate([tables(frames=2), np.zeros((3, 5, 4), np.int64)])
    interval = miou_interval(confusions, match(confusions.sum(0)))
    assert 0 < interval["low"] <= interval["high"] <= 1
    with pytest.raises(InputError, match="label maps"):
        miou_interval(np.zeros((3, 5, 4), np.int64), match(np.zeros((5, 4), np.int64)))
