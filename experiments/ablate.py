"""Does copy-pasting depth regions help? Equal pre-trainings that differ in one factor, over seeds.

Without arguments: the synthetic street, seven variants, three seeds. Run it again to go on, also
with more variants or seeds. Examples:
  python experiments/ablate.py --variants full no-copy-paste slic --seeds 0 1 2
  python experiments/ablate.py --data runs/camvid --evaluate camvid:CamVid/val --out runs/study
"""

from cpcdr.ablate.config import AblateConfig
from cpcdr.commands.ablate import ablate
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(AblateConfig, ablate, __doc__)
