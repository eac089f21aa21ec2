"""Pictures of frames, disparity, regions and classes; plots of scores."""
