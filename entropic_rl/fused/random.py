"""What random streams draw, faster on the CPU: the same bits as those of :mod:`entropic_rl.streams`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from entropic_rl.fused.compilation import Integers, compiled

__all__ = ["draw_words", "order_words"]

_WORD, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10


def draw_words(key: Tensor, position: Tensor, name: int, n_draws: int, n: int) -> Tensor:
    """As :func:`entropic_rl.streams.draw_words`, on the CPU."""
    n_runs, n_blocks = len(key), -(-n // 4)
    words = np.empty((n_runs, n_draws, n_blocks * 4), np.int64)
    _fill(key.reshape(n_runs, 2).numpy(), position.reshape(-1).expand(n_runs).contiguous().numpy(), name, words)
    return torch.from_numpy(words)[..., :n]


def order_words(words: Tensor) -> Tensor:
    """As :func:`entropic_rl.streams.order_words`: numbers with words above and places below, which NumPy sorts."""
    both = words.numpy() << 31 | np.arange(words.shape[-1])
    both.sort(-1)
    return torch.from_numpy(both & 0x7FFFFFFF)


@compiled
def _fill(key: Integers, position: Integers, name: int, words: Integers) -> None:
    """``words [R, n_draws, 4 n_blocks]`` by Philox-4x32-10, ``key [R, 2]``, ``position [R]``."""
    for run in range(words.shape[0]):
        for draw in range(words.shape[1]):
            at = np.uint64(position[run] + draw)
            for block in range(words.shape[2] // 4):
                k0, k1 = np.uint64(key[run, 0]), np.uint64(key[run, 1])
                c0, c1, c2, c3 = np.uint64(block), at & _WORD, at >> _HALF, np.uint64(name)
                for _ in range(_ROUNDS):
                    product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
                    c0, c2 = (product_1 >> _HALF) ^ c1 ^ k0, (product_0 >> _HALF) ^ c3 ^ k1
                    c1, c3 = product_1 & _WORD, product_0 & _WORD
                    k0, k1 = (k0 + _WEYL_0) & _WORD, (k1 + _WEYL_1) & _WORD
                place = 4 * block
                words[run, draw, place], words[run, draw, place + 1] = np.int64(c0), np.int64(c1)
                words[run, draw, place + 2], words[run, draw, place + 3] = np.int64(c2), np.int64(c3)
