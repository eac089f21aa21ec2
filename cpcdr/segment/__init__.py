"""Inference with a trained network: single images and hours of video."""
