"""Train depth and pose networks self-supervised on your own video.

Examples:
  python experiments/train_depth.py
  python experiments/train_depth.py --frames video:drive.mp4 --out runs/drive-depth
  python experiments/train_depth.py --preset paper --frames video:a.mp4,video:b.mp4
"""

from cpcdr.commands.train_depth import train_depth
from cpcdr.runtime.cli import main
from cpcdr.train.config import TrainDepthConfig

if __name__ == "__main__":
    main(TrainDepthConfig, train_depth, __doc__)
