"""Pre-train a segmentation network on a prepared dataset: dense SwAV with copy-paste.

Examples:
  python experiments/pretrain.py --data runs/dataset
  python experiments/pretrain.py --preset paper --data runs/drive --out runs/drive-pretrain
"""

from cpcdr.commands.pretrain import pretrain
from cpcdr.runtime.cli import main
from cpcdr.train.config import PretrainConfig

if __name__ == "__main__":
    main(PretrainConfig, pretrain, __doc__)
