"""Sinkhorn codes, pixel and region correspondences, swapped prediction: plain PyTorch."""

from cpcdr.loss.sinkhorn import sinkhorn
from cpcdr.loss.swapped_prediction import LossConfig, copy_paste_loss, swapped_prediction

__all__ = ["LossConfig", "copy_paste_loss", "sinkhorn", "swapped_prediction"]
