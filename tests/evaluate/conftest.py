"""A checkpoint folder of a tiny network that was never trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cpcdr.checkpoint import write_checkpoint
from cpcdr.config import to_plain
from cpcdr.loss import LossConfig
from cpcdr.model import ModelConfig
from cpcdr.train.pretrain_task import PretrainModule


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = ModelConfig("resnet10", 8, 16, 32, 16, 30)
    torch.manual_seed(3)
    module = PretrainModule(model, LossConfig())
    values = {"model": to_plain(model), "seed": 3, "dataset": {"hash": "x", "size": [64, 128]}}
    config = {"kind": "pretrain", "config": values}
    return write_checkpoint(tmp_path / "checkpoints", 0, config, module.state_dict(), {})
