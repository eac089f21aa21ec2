"""A trained network as ONNX, and into MLflow's model registry.

Example:
  python experiments/export.py --model runs/finetune/checkpoint --out model.onnx --register cpcdr
"""

from cpcdr.cli import main
from cpcdr.export import ExportConfig, export

if __name__ == "__main__":
    main(ExportConfig, export, __doc__)
