"""Counter-based random streams: every number is a pure function of (run seed, stream name, draw, index).

Philox-4x32-10 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405) in integer tensor arithmetic: CPU and GPU
draw the same bits, a run's numbers do not depend on the runs beside it, and the whole state is one counter. Each use
(action noise, minibatch order, resets) has a stream of its own, so that changing one leaves the others alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Stream", "draw_words", "order_words", "philox_4x32"]

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox_4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Philox-4x32-10: 32-bit words in int64, ``counter [..., 4]`` and ``key [..., 2]`` -> random ``[..., 4]``.

    Leading axes broadcast. A 32 x 32-bit product wraps around int64 without loss; shifts and masks recover its halves.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, low0 = (product0 >> 32) & _WORD, product0 & _WORD
        high1, low1 = (product1 >> 32) & _WORD, product1 & _WORD
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), -1)


class Stream:
    """One named stream of random numbers for each of R runs; a draw returns ``[R, ...]`` and advances ``position``.

    Args:
        seeds: R integers in [0, 2^64); equal seeds give equal numbers.
        name: what the numbers are for; different names share no number (but for a collision of 32-bit hashes).
        device: where draws are made.

    Attributes:
        position: how many draws were made, the whole state; ``[]`` on the device, which is waited for if an integer is
            put there, or ``[R]`` where the runs are not in step.
        generate: :func:`draw_words`, or what gives the same words faster.
        order: :func:`order_words`, or what gives the same order faster.

    Example:
        >>> alone = Stream([7], "action").uniform(3)
        >>> beside = Stream([3, 7, 5], "action").uniform(3)
        >>> bool((alone[0] == beside[1]).all())
        True
    """

    def __init__(self, seeds: Sequence[int], name: str, *, device: torch.device | str = "cpu") -> None:
        for seed in seeds:
            if not 0 <= seed < 2**64:
                raise ValueError(f"a seed must be an integer in [0, 2^64), got {seed}")
        self._name_word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        words = [[seed & _WORD, seed >> 32] for seed in seeds]
        self._key = torch.tensor(words, dtype=torch.int64, device=device).reshape(-1, 1, 1, 2)
        self.position: int | Tensor = torch.zeros((), dtype=torch.int64, device=device)
        self.generate: Callable[[Tensor, Tensor, int, int, int], Tensor] = draw_words
        self.order: Callable[[Tensor], Tensor] = order_words

    def bits(self, *shape: int) -> Tensor:
        """Uniform 32-bit words in int64, ``[R, *shape]``."""
        words = self._words(1, math.prod(shape))
        self.position = self.position + 1  # never in place: a tensor may be the caller's
        return _shape(words, 1, *shape)[:, 0]

    def ahead(self, n_draws: int, *shape: int) -> Tensor:
        """What the next ``n_draws`` calls of :meth:`uniform` would give, ``[R, n_draws, *shape]``; nothing advances."""
        return _to_unit_interval(_shape(self._words(n_draws, math.prod(shape)), n_draws, *shape))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in the open interval (0, 1), float64, ``[R, *shape]``."""
        return _to_unit_interval(self.bits(*shape))

    def gumbel(self, *shape: int) -> Tensor:
        """Standard Gumbel, float64, ``[R, *shape]``: ``argmax(logits + gumbel)`` samples softmax(logits)."""
        return -(-self.uniform(*shape).log()).log()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal by inversion, float64, ``[R, *shape]``; |x| < 6.4."""
        return torch.special.ndtri(self.uniform(*shape))

    def permutation(self, n: int) -> Tensor:
        """A random order of range(n) per run, int64, ``[R, n]``."""
        return self.permutations(1, n)[:, 0]

    def permutations(self, n_draws: int, n: int) -> Tensor:
        """What ``n_draws`` calls of :meth:`permutation` give, ``[R, n_draws, n]``."""
        words = self._words(n_draws, n)
        self.position = self.position + n_draws
        return self.order(words)

    def seeds(self, n: int) -> list[list[int]]:
        """Seeds for generators that are not ours (Gymnasium environments): R lists of n integers in [0, 2^31)."""
        return (self.bits(n) >> 1).tolist()

    def _words(self, n_draws: int, n: int) -> Tensor:
        """Words of draws ``position`` to ``position + n_draws - 1``, ``[R, n_draws, n]``."""
        return self.generate(
            self._key, torch.as_tensor(self.position, device=self._key.device), self._name_word, n_draws, n
        )


def draw_words(key: Tensor, position: Tensor, name: int, n_draws: int, n: int) -> Tensor:
    """Words of draws ``position`` to ``position + n_draws - 1``, ``[R, n_draws, n]``, with ``key [R, 1, 1, 2]``."""
    n_blocks, device = -(-n // 4), key.device
    draw = position.reshape(-1, 1) + torch.arange(n_draws, device=device)
    counter = torch.zeros(*draw.shape, n_blocks, 4, dtype=torch.int64, device=device)
    counter[..., 0] = torch.arange(n_blocks, device=device)
    counter[..., 1] = (draw & _WORD).unsqueeze(-1)
    counter[..., 2] = (draw >> 32).unsqueeze(-1)
    counter[..., 3] = name
    words = philox_4x32(counter, key)  # [R, n_draws, n_blocks, 4]
    return words.flatten(2)[..., :n]


def order_words(words: Tensor) -> Tensor:
    """Places of the smallest word of each row, the next one and so on, ``[..., n]``; equal ones stay in order."""
    return words.argsort(dim=-1, stable=True)


def _shape(words: Tensor, n_draws: int, *shape: int) -> Tensor:
    """``[R, n_draws, n]`` as ``[R, n_draws, *shape]``; R is written out because there may be no numbers at all."""
    return words.reshape(len(words), n_draws, *shape)


def _to_unit_interval(bits: Tensor) -> Tensor:
    return (bits.to(torch.float64) + 0.5) * 2.0**-32
