"""Train depth and pose networks self-supervised on your own video.

Examples:
  python experiments/train_depth.py
  python experiments/train_depth.py --frames video:drive.mp4 --out runs/drive-depth
  python experiments/train_depth.py --preset paper --frames kitti-odometry:KITTI --depth.intrinsics learn
"""

from cpcdr.cli import main
from cpcdr.train.depth import TrainDepthConfig, train_depth

if __name__ == "__main__":
    main(TrainDepthConfig, train_depth, __doc__)
