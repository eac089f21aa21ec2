"""A linear probe as a checkpoint predicts like the probe's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cpcdr.evaluate.probe_head import save_probe
from cpcdr.evaluate.probes import linear_classes
from cpcdr.model.config import ModelConfig
from cpcdr.model.finetuned import load_finetuned
from cpcdr.model.segmentation import SegmentationNetwork


def test_predictions_agree_and_an_old_folder_is_replaced(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(ModelConfig("resnet10", 8, 16, 32, 16, 20)).eval()
    about = {"protocol": "synthetic", "size": [64, 128], "probe": {"frames": "street"}}
    images = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        features = network.embed(images)[0].flatten(1).T.numpy()
    for seed in (0, 1):
        weights = np.random.default_rng(seed).normal(size=(33, 7))
        save_probe(tmp_path / "out" / "probe", network, weights, about, 5)
        module, values = load_finetuned(tmp_path / "out" / "probe")
        with torch.no_grad():
            predicted = module.logits(images)[0].argmax(0).numpy().ravel()
        assert (predicted == linear_classes(weights, features)).mean() > 0.999
        assert values["step"] == 5 and values["config"]["probe"] == {"frames": "street"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["probe"]
