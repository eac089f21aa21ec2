"""Ray Data: frames -> depth -> regions -> a Parquet dataset, resumable and atomically published."""

from cpcdr.prepare.pipeline import PrepareConfig, prepare

__all__ = ["PrepareConfig", "prepare"]
