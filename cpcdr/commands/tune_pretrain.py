"""Search over the pre-training itself: learning rate, prototypes, loss weights, copy counts."""

from __future__ import annotations

from typing import Any

from cpcdr.commands.tune_regions import _tune
from cpcdr.tune.config import TunePretrainConfig
from cpcdr.tune.space import TRAINING_SPACE


def tune_pretrain(config: TunePretrainConfig) -> dict[str, Any]:
    """Search, or go on searching, over the pre-training; returns and raises as `tune_regions`."""
    default = dict(TRAINING_SPACE)
    if config.scheduler == "pbt":
        del default["prototypes"]
    return _tune(config, default, "tune-pretrain", config.scheduler)
