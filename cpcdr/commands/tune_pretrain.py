"""Search learning rate, prototypes, loss weights and copy counts.

Without arguments on the synthetic street. Ends like cpcdr tune-regions: a table, best.yaml, figures
in MLflow, and the commands that train the winner in full.

Examples:
  cpcdr tune-pretrain
  cpcdr tune-pretrain --scheduler pbt --trials 9
  cpcdr tune-pretrain --data runs/camvid --evaluate camvid:CamVid/val --trials 40
"""

from typing import Any

from cpcdr.commands.tune_regions import tune
from cpcdr.tune.config import TunePretrainConfig
from cpcdr.tune.space import TRAINING_SPACE


def tune_pretrain(config: TunePretrainConfig) -> dict[str, Any]:
    """Run or resume the search over pre-training settings; returns and raises as `tune_regions`."""
    default = dict(TRAINING_SPACE)
    if config.scheduler == "pbt":
        del default["prototypes"]
    return tune(config, default, "tune-pretrain", config.scheduler)
