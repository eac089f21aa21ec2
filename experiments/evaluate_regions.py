"""Measure coherent depth regions, beside SLIC, Felzenszwalb and depth components.

Examples:
  python experiments/evaluate_regions.py
  python experiments/evaluate_regions.py --frames camvid:CamVid/val --size 192 256 \\
      --depth network:runs/depth/checkpoint
"""

from cpcdr.cli import main
from cpcdr.evaluate.regions import EvaluateRegionsConfig, evaluate_regions

if __name__ == "__main__":
    main(EvaluateRegionsConfig, evaluate_regions, __doc__)
