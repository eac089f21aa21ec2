"""Ray Tune: searches over regions and over the pre-training, in which nothing is done twice."""
