"""Sinkhorn codes, pixel and region correspondences, swapped prediction: plain PyTorch."""
