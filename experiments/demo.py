"""The whole chain in a few minutes: frames -> dataset -> pre-training -> evaluation -> MLflow.

Without arguments: the synthetic street on this machine. Examples:
  python experiments/demo.py --seed 1
  python experiments/demo.py --frames video:drive.mp4 --depth network:runs/depth/checkpoint
"""

from cpcdr.cli import main
from cpcdr.demo import DemoConfig, demo

if __name__ == "__main__":
    main(DemoConfig, demo, __doc__)
