"""A prepared dataset as rgb/, disp/ and region/ trees of PNG files, the released code's layout.

Example:
  python experiments/export_png.py --data runs/dataset --out runs/png
"""

from cpcdr.cli import main
from cpcdr.prepare.png_tree import ExportConfig, export_png

if __name__ == "__main__":
    main(ExportConfig, export_png, __doc__)
