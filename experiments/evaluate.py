"""Score a pre-trained network without labels in training: the unsupervised protocol.

Examples:
  python experiments/evaluate.py --checkpoint runs/pretrain/checkpoint
  python experiments/evaluate.py --checkpoint runs/camvid/checkpoint --frames camvid:CamVid/val
"""

from cpcdr.cli import main
from cpcdr.evaluate.driver import EvaluateConfig, evaluate

if __name__ == "__main__":
    main(EvaluateConfig, evaluate, __doc__)
