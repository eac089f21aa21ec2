"""Measure depth against the truth, and a network's motion and photometry.

Examples:
  python experiments/evaluate_depth.py --depth network:runs/depth/checkpoint
  python experiments/evaluate_depth.py --depth network:runs/depth/checkpoint \\
      --frames kitti-raw:KITTI --truth velodyne: --crop eigen
  python experiments/evaluate_depth.py --depth network:runs/depth/checkpoint \\
      --frames video:drive.mp4 --options.window=-40: --truth ''
"""

from cpcdr.commands.evaluate_depth import evaluate_depth
from cpcdr.evaluate.config import EvaluateDepthConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(EvaluateDepthConfig, evaluate_depth, __doc__)
