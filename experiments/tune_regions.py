"""Search region thresholds and the number of prototypes; without arguments on the synthetic street.

Ends with a table of trials and best.yaml, which prepare.py and pretrain.py take with --config.

Examples:
  python experiments/tune_regions.py
  python experiments/tune_regions.py --data runs/camvid --evaluate camvid:CamVid/val --trials 40
"""

from cpcdr.cli import main
from cpcdr.tune import TuneConfig, tune_regions

if __name__ == "__main__":
    main(TuneConfig, tune_regions, __doc__)
