"""Ray Data: frames -> depth -> regions -> a Parquet dataset, resumable and atomically published."""
