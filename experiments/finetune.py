"""Fine-tune on labelled frames: from a pre-trained checkpoint, torchvision weights, or scratch.

Examples:
  python experiments/finetune.py
  python experiments/finetune.py --frames camvid:CamVid/train --evaluate camvid:CamVid/val \\
      --finetune.init runs/pretrain/checkpoint --finetune.fraction 0.125
"""

from cpcdr.commands.finetune import finetune
from cpcdr.runtime.cli import main
from cpcdr.train.config import FinetuneConfig

if __name__ == "__main__":
    main(FinetuneConfig, finetune, __doc__)
