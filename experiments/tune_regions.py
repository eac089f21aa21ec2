"""Search region settings, prototypes and temperatures; without arguments on the synthetic street.

First hundreds of region settings are scored without training, then short pre-trainings search
within the best. Ends with a table of trials, the winner beside the default configuration on streets
that no trial was scored on, figures in MLflow, best.yaml, and the commands that train the winner.
Run the same command again after any interruption, or with more --trials.

Examples:
  python experiments/tune_regions.py
  python experiments/tune_regions.py --trials 30 --objective label_free
  python experiments/tune_regions.py --data runs/camvid --evaluate camvid:CamVid/val --trials 40
  python experiments/tune_regions.py --data runs/data --evaluate video:other.mp4 --space space.yaml
"""

from cpcdr.commands.tune_regions import tune_regions
from cpcdr.runtime.cli import main
from cpcdr.tune.config import TuneConfig

if __name__ == "__main__":
    main(TuneConfig, tune_regions, __doc__)
