"""A trained network as ONNX, and into MLflow's model registry.

Example:
  python experiments/export.py --model runs/finetune/checkpoint --out model.onnx --register cpcdr
"""

from cpcdr.commands.export import export
from cpcdr.runtime.cli import main
from cpcdr.segment.config import ExportConfig

if __name__ == "__main__":
    main(ExportConfig, export, __doc__)
