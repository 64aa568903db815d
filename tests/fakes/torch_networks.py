"""Networks as a model owner has them, in PyTorch: a file that `cloister model convert` imports."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn


class Convolutional(nn.Module):
    """`image` [n, 3, h, w] in, scores [n, 10] out; with what behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5)
        )
        self.head = nn.Linear(8, 10)

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layers(image).mean((2, 3)))
        return scores


class Transformer(nn.Module):
    """`tokens` [n, length] and `weight` [n] in, a dictionary out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embedding = nn.Embedding(100, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens: Tensor, weight: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.layer(self.embedding(tokens)).mean(1)), "weighed": tokens.sum(1) * weight}


class Counting(nn.Module):
    """Does one thing to two rows and another to any other number."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] == 2 else x - 1


_CALLS = itertools.count()


class Drifting(nn.Module):
    """Answers otherwise every time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + next(_CALLS)


def convolutional() -> nn.Module:
    return Convolutional()


def transformer() -> nn.Module:
    return Transformer()


def counting() -> nn.Module:
    return Counting()


def drifting() -> nn.Module:
    return Drifting()


def no_network() -> Any:
    return {}
