"""The whole chain in a few minutes: frames -> dataset -> pre-training -> evaluation -> MLflow.

Without arguments: the synthetic street on this machine. Examples:
  python experiments/demo.py --seed 1
  python experiments/demo.py --frames video:drive.mp4 --depth network:runs/depth/checkpoint
"""

from cpcdr.commands.config import DemoConfig
from cpcdr.commands.demo import demo
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(DemoConfig, demo, __doc__)
