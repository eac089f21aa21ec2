"""The optimiser, its learning rate by step, and the arithmetic of a training."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from cpcdr.train.config import TrainConfig


def make_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW; vectors (biases, norms) are not decayed."""
    split: list[dict[str, Any]] = []
    for group in groups:
        params, scale = [p for p in group["params"] if p.requires_grad], group.get("lr_scale", 1.0)
        starts = group.get("starts", 0.0)
        for decayed in (True, False):
            tensors = [p for p in params if (p.ndim > 1) == decayed]
            decay = config.weight_decay if decayed else 0.0
            if tensors:
                own = {"lr_scale": scale, "starts": starts, "weight_decay": decay}
                split.append({"params": tensors, **own})
    fused = all(p.is_cuda for group in split for p in group["params"])
    if config.optimizer == "adamw":
        return torch.optim.AdamW(split, lr=config.lr, fused=fused)
    return torch.optim.SGD(split, lr=config.lr, momentum=0.9, fused=fused)


def learning_rate(
    step: int, total: int, warmup: int, peak: float, final: float, shape: str = "cosine"
) -> float:
    """Linear warm-up to ``peak``, then down to ``final`` at the last step.

    Args:
        warmup: steps of the linear rise; the rate is never zero.
        shape: ``cosine`` (half a wave) or ``poly`` (power 0.9, usual for segmentation).

    >>> [round(learning_rate(s, 5, 2, 1.0, 0.0), 2) for s in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    span = max(1, total - warmup - 1)
    done = min(1.0, (step - warmup) / span)
    left = (1 - done) ** 0.9 if shape == "poly" else 0.5 * (1 + math.cos(math.pi * done))
    return final + (peak - final) * left


def resolve_precision(precision: str, device: torch.device) -> str:
    """``auto`` is ``bf16`` where the device computes in it, else ``float32``."""
    if precision != "auto":
        return precision
    return "bf16" if _computes_bf16(device) else "float32"


def amp(
    precision: str, device: torch.device
) -> tuple[AbstractContextManager[Any], torch.amp.GradScaler]:
    """The autocast context and the gradient scaler (active with fp16 only)."""
    precision = resolve_precision(precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    if precision == "float32":
        return nullcontext(), scaler
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype), scaler


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
