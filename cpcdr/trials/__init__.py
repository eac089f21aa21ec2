"""What searches and studies share: trials under Ray Tune, recorded as child runs in MLflow."""
