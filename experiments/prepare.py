"""Frames of a video, folder or dataset -> disparity -> coherent depth regions -> Parquet.

Examples:
  python experiments/prepare.py
  python experiments/prepare.py --frames video:drive.mp4 --depth network:runs/depth/checkpoint \\
      --size 384 768 --out runs/drive
  python experiments/prepare.py --regroup runs/drive --regions.separation 0.3 --out runs/drive-0.3
"""

from cpcdr.commands.prepare import prepare
from cpcdr.prepare.config import PrepareConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(PrepareConfig, prepare, __doc__)
