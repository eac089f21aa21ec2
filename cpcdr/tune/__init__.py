"""Ray Tune: search over region thresholds and prototype counts."""

from cpcdr.tune.search import TuneConfig, tune_regions

__all__ = ["TuneConfig", "tune_regions"]
