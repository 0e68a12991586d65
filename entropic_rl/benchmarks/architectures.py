"""Networks of every kind on the digits that scikit-learn brings: what gradient flow is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from entropic_rl.datasets import load, split
from entropic_rl.diagnostics.flow import GradientFlow
from entropic_rl.losses import entropic_cross_entropy

__all__ = ["HEALTHY", "ByPixel", "accuracy", "batches", "digits", "fit", "perceptron"]

_BATCH = 64


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test rows, standardised by the training rows: ``[N, 64]``, ``[N]``, and the same of the test."""
    data = load("digits")
    parts = split(data, seed=0)
    x, y = torch.tensor(data.X, dtype=torch.float32), torch.tensor(data.y)
    train, test = torch.tensor(parts.train), torch.tensor(parts.test)
    mean, std = x[train].mean(0), x[train].std(0) + 1e-2
    x = (x - mean) / std
    return x[train], y[train], x[test], y[test]


def perceptron(
    sizes: list[int], activation: Callable[[], nn.Module] = nn.ReLU, *, gain: float | None = None
) -> nn.Sequential:
    """Linear layers with activations between them; with a ``gain`` orthogonal, else as torch begins."""
    module = nn.Sequential()
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        if gain is not None:
            nn.init.orthogonal_(linear.weight, gain)
            nn.init.zeros_(linear.bias)
        module.append(linear)
        if i < len(sizes) - 2:
            module.append(activation())
    return module


class Convolutional(nn.Module):
    """Two convolutions and a linear layer; batch normalisation between them if wanted."""

    def __init__(self, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3), nn.Linear(288, 10)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) if batch_norm else nn.Identity() for n in (16, 32)])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64] -> [B, 10]``."""
        x = F.relu(self.norms[0](self.first(x.view(-1, 1, 8, 8))))
        x = F.max_pool2d(F.relu(self.norms[1](self.second(x))), 2)
        return self.head(x.flatten(1))


class ByRow(nn.Module):
    """A recurrent layer that reads an image row by row."""

    def __init__(self, kind: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.memory, self.head = kind(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64] -> [B, 10]``."""
        states, _ = self.memory(x.view(-1, 8, 8))
        return self.head(states[:, -1])


class ByPixel(nn.Module):
    """A recurrent layer that reads an image pixel by pixel: 64 steps."""

    def __init__(self, kind: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.memory, self.head = kind(1, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64] -> [B, 10]``."""
        states, _ = self.memory(x.unsqueeze(-1))
        return self.head(states[:, -1])


class Transformer(nn.Module):
    """Two layers of four heads over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.positions = nn.Parameter(torch.randn(8, 32) * 32**-0.5)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64] -> [B, 10]``."""
        return self.head(self.body(self.embed(x.view(-1, 8, 8)) + self.positions).mean(1))


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: perceptron([64, 64, 64, 10]),
    "convolutions": Convolutional,
    "convolutions with batch norm": lambda: Convolutional(batch_norm=True),
    "GRU": lambda: ByRow(nn.GRU),
    "LSTM": lambda: ByRow(nn.LSTM),
    "transformer": Transformer,
}


def batches(n: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``n`` minibatches of 64 training rows, drawn with replacement."""
    x, y, _, _ = digits()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        rows = torch.randint(len(x), (_BATCH,), generator=generator)
        yield x[rows], y[rows]


def fit(
    module: nn.Module, n_steps: int, *, seed: int = 0, ent_coef: float = 0.05, every: int | None = None
) -> GradientFlow | None:
    """Train by Adam at 1e-3 on the entropic loss; with ``every`` under observation."""
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-3)
    flow = None if every is None else GradientFlow(module, optimizer, every=every)
    module.train()
    for x, y in batches(n_steps, seed):
        if flow is not None:
            flow.look(x, loss=lambda z, y=y: F.cross_entropy(z, y), ent_coef=ent_coef)  # type: ignore[misc]
        optimizer.zero_grad()
        entropic_cross_entropy(module(x), y, ent_coef=ent_coef).mean().backward()
        optimizer.step()
    return flow


@torch.no_grad()
def accuracy(module: nn.Module) -> float:
    """On the test rows."""
    _, _, x, y = digits()
    return float((module.eval()(x).argmax(1) == y).double().mean())
