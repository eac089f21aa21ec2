"""What frozen features know: linear probes, nearest neighbours, purity of prototypes.

Example:
  python experiments/probe.py --checkpoint runs/pretrain/checkpoint \\
      --frames camvid:CamVid/train --evaluate camvid:CamVid/val
"""

from cpcdr.commands.probe import probe
from cpcdr.evaluate.config import ProbeConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(ProbeConfig, probe, __doc__)
