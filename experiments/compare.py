"""Runs beside each other: differing parameters, curves, figures, in one HTML page.

Examples:
  python experiments/compare.py --kinds pretrain
  python experiments/compare.py --parent RUN_ID_OF_A_SEARCH --out runs/search.html
"""

from cpcdr.commands.compare import compare
from cpcdr.commands.config import CompareConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(CompareConfig, compare, __doc__)
