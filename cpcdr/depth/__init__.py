"""Depth from one image, learned from video alone, and every other place depth may come from."""
