"""A prepared dataset as rgb/, disp/ and region/ trees of PNG files, the released code's layout.

Example:
  python experiments/export_png.py --data runs/dataset --out runs/png
"""

from cpcdr.commands.export_png import export_png
from cpcdr.prepare.config import ExportPngConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    main(ExportPngConfig, export_png, __doc__)
