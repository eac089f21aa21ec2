"""Search learning rate, prototypes, loss weights and copy counts of the pre-training.

Without arguments on the synthetic street. Ends like tune_regions.py: a table, best.yaml, figures in
MLflow, and the commands that train the winner in full.

Examples:
  python experiments/tune_pretrain.py
  python experiments/tune_pretrain.py --scheduler pbt --trials 9
  python experiments/tune_pretrain.py --data runs/camvid --evaluate camvid:CamVid/val --trials 40
"""

from cpcdr.commands.tune_pretrain import tune_pretrain
from cpcdr.runtime.cli import main
from cpcdr.tune.config import TunePretrainConfig

if __name__ == "__main__":
    main(TunePretrainConfig, tune_pretrain, __doc__)
