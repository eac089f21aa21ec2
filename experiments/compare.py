"""Runs beside each other: differing parameters, curves, figures, in one HTML page.

Examples:
  python experiments/compare.py --kinds pretrain
  python experiments/compare.py --parent RUN_ID_OF_A_SEARCH --out runs/search.html
"""

from cpcdr.cli import main
from cpcdr.compare import CompareConfig, compare

if __name__ == "__main__":
    main(CompareConfig, compare, __doc__)
