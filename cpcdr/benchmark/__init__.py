"""Timings beside the limit measured in the same run; `experiments/benchmark.py` runs them."""
