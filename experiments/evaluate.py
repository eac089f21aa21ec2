"""Score a pre-trained network without labels in training: the unsupervised protocol.

Examples:
  python experiments/evaluate.py --checkpoint runs/pretrain/checkpoint
  python experiments/evaluate.py --checkpoint runs/camvid/checkpoint --frames camvid:CamVid/val
"""

from typing import Any

from cpcdr.commands.evaluate import evaluate
from cpcdr.evaluate.config import EvaluateConfig
from cpcdr.evaluate.report import table
from cpcdr.runtime.cli import main


def evaluate_and_print(config: EvaluateConfig) -> dict[str, Any]:
    """The scores, also as a table for people."""
    result = evaluate(config)
    print(table(result))
    return result


if __name__ == "__main__":
    main(EvaluateConfig, evaluate_and_print, __doc__)
