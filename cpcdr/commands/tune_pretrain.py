"""Search over the pre-training itself: learning rate, prototypes, loss weights, copy counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpcdr.commands.tune_regions import _tune
from cpcdr.runtime.errors import InputError
from cpcdr.tune.search import SearchConfig
from cpcdr.tune.space import TRAINING_SPACE


@dataclass(frozen=True)
class TunePretrainConfig(SearchConfig):
    """Find the learning rate, prototypes, loss weights and copy counts that segment best.

    Attributes:
        scheduler: ``asha`` proposes by TPE and stops weak trials early; ``pbt`` trains a population
            in which the worse go on from the better ones' checkpoints with other settings.
    """

    out: Path = Path("runs/tune-pretrain")
    scheduler: str = "asha"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheduler not in ("asha", "pbt"):
            raise InputError(f"--scheduler '{self.scheduler}' is unknown; choose asha or pbt.")
        if self.scheduler == "pbt" and self.trials < 3:
            raise InputError("--scheduler pbt needs --trials 3: the default and a population.")


def tune_pretrain(config: TunePretrainConfig) -> dict[str, Any]:
    """Search, or go on searching, over the pre-training; returns and raises as `tune_regions`."""
    default = dict(TRAINING_SPACE)
    if config.scheduler == "pbt":
        del default["prototypes"]
    return _tune(config, default, "tune-pretrain", config.scheduler)
