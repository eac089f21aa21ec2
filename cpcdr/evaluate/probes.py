"""Probes of frozen features: linear classifiers, nearest neighbours, purity of prototypes.

Features are taken at stride 4 before the projector (linear probes) or after it, L2-normalised
(neighbours); a feature's label is that of the pixel at its centre. Shape letters: P pixels, C
channels, K classes.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cpcdr.frames.frame import IGNORE

_SGD_EPOCHS, _SGD_RATE = 10, 0.1

T = TypeVar("T", bound=np.generic)


def grid_labels(labels: NDArray[T], size: tuple[int, ...]) -> NDArray[T]:
    """Labels, or any map [H, W], at the centres of a coarser grid [h, w].

    >>> grid_labels(np.arange(16, dtype=np.uint8).reshape(4, 4), (2, 2)).tolist()
    [[5, 7], [13, 15]]
    """
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(int)
        for n, side in zip(size, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


class RidgeProbe:
    """Least squares to one-hot labels, in closed form; the penalty is relative to mean squares."""

    def __init__(self, channels: int, classes: int, penalty: float = 1e-3) -> None:
        self.penalty = penalty
        self.classes = classes
        self.moment = np.zeros((channels + 1, channels + 1))
        self.target = np.zeros((channels + 1, classes))

    def add(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
        """Accumulate features [P, C] with labels [P]; 255 is ignored."""
        labelled = labels != IGNORE
        x = _with_one(features[labelled])
        self.moment += x.T @ x
        self.target += x.T @ np.eye(self.classes)[labels[labelled]]

    def first(self, channels: int) -> "RidgeProbe":
        """The probe of the first channels, as if it had been given them alone."""
        probe = RidgeProbe(channels, self.classes, self.penalty)
        kept = [*range(channels), len(self.moment) - 1]
        probe.moment, probe.target = self.moment[np.ix_(kept, kept)], self.target[kept]
        return probe

    def solve(self) -> NDArray[np.float64]:
        """Weights [C + 1, K]; the last row is the offset, which is not penalised."""
        size = len(self.moment)
        pixels = max(self.moment[-1, -1], 1.0)
        strength = self.penalty * np.trace(self.moment[:-1, :-1]) / max(size - 1, 1)
        penalty = np.diag([max(strength, 1e-9 * pixels)] * (size - 1) + [1e-9 * pixels])
        return np.linalg.solve(self.moment + penalty, self.target).astype(np.float64)


def linear_classes(
    weights: NDArray[np.floating], features: NDArray[np.floating]
) -> NDArray[np.int64]:
    """The class with the highest linear score: features [P, C] -> [P]."""
    return (_with_one(features) @ weights).argmax(axis=1)


def _with_one(features: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)


def sgd_probe(features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> NDArray[np.float64]:
    """Multinomial logistic regression by SGD on standardised features.

    Args:
        features: float32 [P, C].
        labels: int64 [P], no 255.

    Returns:
        weights [C + 1, K] for the features before standardisation, as `RidgeProbe.solve`.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / deviation
    layer = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    batches = max(1, len(x) // 1024)
    optimizer = torch.optim.SGD(layer.parameters(), lr=_SGD_RATE, momentum=0.9, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _SGD_EPOCHS * batches)
    for _ in range(_SGD_EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for batch in order.tensor_split(batches):
            loss = functional.cross_entropy(layer(x[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    weight = (layer.weight.detach() / deviation).T
    offset = layer.bias.detach() - mean @ weight
    return torch.cat([weight, offset[None]]).double().numpy()


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A k-NN classifier: L2-normalised features float32 [P, C] with labels int64 [P]."""

    features: Tensor
    labels: Tensor
    classes: int
    k: int = 20
    temperature: float = 0.07

    def classify(self, queries: Tensor) -> NDArray[np.int64]:
        """Weighted vote of the k nearest by cosine (Wu et al. 2018): [Q, C] -> [Q]."""
        classes = []
        for chunk in functional.normalize(queries, dim=1).split(4096):
            similarity, index = (chunk @ self.features.T).topk(min(self.k, len(self.labels)))
            votes = torch.zeros(len(chunk), self.classes)
            votes.scatter_add_(1, self.labels[index], (similarity / self.temperature).exp())
            classes.append(votes.argmax(1))
        return torch.cat(classes).numpy()


def prototype_purity(counts: NDArray[np.integer]) -> float:
    """Mean fraction of the majority class over prototypes, from pixels [prototypes, K]."""
    used = counts.sum(axis=1) > 0
    return float((counts[used].max(axis=1) / counts[used].sum(axis=1)).mean())


def sample_pixels(
    features: Tensor, labels: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Labelled features of random pixels of one frame.

    Args:
        features: [C, h, w].
        labels: [h, w] of the same pixels; 255 is never drawn.
        count: number of pixels, fewer if the frame has fewer labels.

    Returns:
        [P, C] and int64 [P].
    """
    labelled = np.flatnonzero(labels.ravel() != IGNORE)
    pixels = rng.choice(labelled, min(count, len(labelled)), replace=False)
    classes = torch.from_numpy(labels.ravel()[pixels].astype(np.int64))
    return features.flatten(1).T[torch.from_numpy(pixels)], classes
