"""Using a trained network: on an image in a notebook, on hours of video."""
