"""Run a trained network over video: an overlay video, or label maps as PNG files.

Classes have names where the network saw labels: of finetune.py, or of probe.py.

Examples:
  python experiments/segment.py --model runs/finetune/checkpoint --frames video:drive.mp4 \\
      --out segmented.mp4
  python experiments/segment.py --model runs/pretrain/probe --frames video:drive.mp4 \\
      --out segmented.mp4
  python experiments/segment.py --model models:/cpcdr@champion --frames video:drives/ \\
      --out runs/labels --labels
"""

from cpcdr.commands.segment import segment
from cpcdr.runtime.cli import main
from cpcdr.segment.config import SegmentConfig

if __name__ == "__main__":
    main(SegmentConfig, segment, __doc__)
