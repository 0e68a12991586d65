"""The term of a training loss that rows without labels give rise to."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.losses.unlabeled import unlabeled_loss
from entropic_rl.streams import Stream
from entropic_rl.supervised.networks import Network

__all__ = ["UnlabeledTerm"]


class UnlabeledTerm:
    """:func:`entropic_rl.losses.unlabeled_loss` of other rows at each step, for R runs.

    Rows are taken in random order, until too few are left for a step; then in another. Both weights rise together,
    linearly, over the first ``ramp`` of the training: a network that knows nothing yet would be made sure of what it
    happens to say.

    Args:
        x: ``[N, D]``, where the networks are.
        rows: ``[R, n]``, of ``x``, that each run may see without their labels.
        config: weights, ramp, and rows per step.
        seeds: R, of the draws.
    """

    def __init__(self, x: Tensor, rows: Tensor, config: UnlabeledConfig, seeds: Sequence[int]) -> None:
        self._x, self._rows, self._config = x, rows.to(x.device), config
        self._size = min(config.unlabeled_batch_size or rows.shape[1], rows.shape[1])
        self._order = Stream(seeds, "unlabeled", device=x.device)
        self._left = rows[:, :0]

    def __call__(self, network: Network, progress: float, noise: Stream) -> Tensor:
        """The term of each run, ``[R]``; see :class:`entropic_rl.supervised.fitting.Extra`."""
        rows = self._next_rows()
        x = self._x.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        logits = network(x, training=True, noise=noise)
        return self.share(progress) * unlabeled_loss(
            logits, entropy_coef=self._config.unlabeled_coef, marginal_coef=self._config.marginal_coef
        )

    def _next_rows(self) -> Tensor:
        """``[R, B]``."""
        n_rows = self._rows.shape[1]
        if self._size == n_rows:
            return self._rows
        if self._left.shape[1] < self._size:
            self._left = self._rows.gather(1, self._order.permutation(n_rows))
        rows, self._left = self._left[:, : self._size], self._left[:, self._size :]
        return rows

    def share(self, progress: float) -> float:
        """How much of the weights counts when the share ``progress`` of the training is done."""
        return min(1.0, progress / self._config.ramp) if self._config.ramp else 1.0
