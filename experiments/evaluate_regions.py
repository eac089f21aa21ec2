"""Measure coherent depth regions, beside SLIC, Felzenszwalb and depth components.

Examples:
  python experiments/evaluate_regions.py
  python experiments/evaluate_regions.py --frames camvid:CamVid/val --size 192 256 \\
      --depth network:runs/depth/checkpoint
"""

from cpcdr.commands.evaluate_regions import evaluate_regions
from cpcdr.evaluate.config import EvaluateRegionsConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(EvaluateRegionsConfig, evaluate_regions, __doc__)
