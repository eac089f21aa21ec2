"""Running trials through Ray Tune and recording each in a run of its own."""
