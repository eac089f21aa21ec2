"""The study: equal pre-trainings that differ in one factor, over seeds, with intervals.

From the bottom up: `variants` defines what is compared, `datasets` gives the same frames other
regions, `labelled` keeps the frames to score on, `context` is the test of context dependence,
`measure` scores a checkpoint, `trials` runs all of it through Ray Tune, `statistics`, `report` and
`figures` present the results. The command is `cpcdr.commands.ablate`.
"""
