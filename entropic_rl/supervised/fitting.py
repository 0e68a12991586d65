"""The training of classifiers and regressors: minibatches, schedules, the entropy weight, early stopping; R runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from entropic_rl.coefficients import EntropyCoefficient, ProportionalIntegral, ScheduledValue
from entropic_rl.errors import ConfigError
from entropic_rl.losses.core import entropic_loss
from entropic_rl.optimizers import clip_grad_norm_
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig, common
from entropic_rl.supervised.networks import Network, Perceptrons
from entropic_rl.supervised.per_run import optimizer_of, per_run
from entropic_rl.supervised.tasks import Task
from entropic_rl.watching import UNWATCHED, Terms

__all__ = ["Extra", "Fitting", "Table", "n_minibatches"]

_INITIAL = 0.1  # what a steered entropy weight begins with


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to learn from.

    Attributes:
        x: ``[N, D]``, in the networks' type.
        target: ``[N]`` class indices, or ``[N, D]`` numbers.
        weight: ``[N]``, >= 0, how much each row counts; None if all count the same.
    """

    x: Tensor
    target: Tensor
    weight: Tensor | None = None


class Extra(Protocol):
    """What training pays for beside its table: a term over rows of its own, without labels say."""

    def __call__(self, network: Network, progress: float, noise: Stream) -> Tensor:
        """The term of each run, ``[R]``, added to its loss; ``progress`` is the share of training done, in [0, 1)."""


class Fitting:
    """Training of R networks, each on its own rows of one table, with its own entropy weight.

    Minibatches are drawn by a stream of each run, and a run that has stopped early is left alone: a run in a batch is
    the run alone (but for rounding of the last digits where libraries round products of other sizes otherwise).

    Args:
        network: of R runs.
        task: what outputs are judged by.
        config: of all runs, or R that differ in :data:`~entropic_rl.supervised.config.PER_RUN` alone.
        seeds: R, of minibatches and dropout.
        ent_coefs: R; the configuration's if None.
        perturb: moves the rows ``[R, B, D]`` of every minibatch, given their targets, before they are learned from.
        extra: a term that is added to every minibatch's loss; none if None. Early stopping does not look at it.
        on_step: hears the losses ``[R]`` of every minibatch, before its step.
        may_diverge: leave a run alone whose loss is not finite any more, instead of refusing the whole batch.

    Attributes:
        history: per epoch, ``[R]`` each: ``loss``, ``ent_coef``, and ``validation_loss`` with early stopping.
        n_epochs: ``[R]``, epochs that each run was trained for.
        diverged: ``[R]``, bool: whose loss was not finite in an epoch.
        watcher: is told of every gradient step of perceptrons (not of modules of anyone's).
    """

    def __init__(
        self,
        network: Network,
        task: Task,
        config: FitConfig | Sequence[FitConfig],
        seeds: Sequence[int],
        ent_coefs: Sequence[float | str] | None = None,
        *,
        perturb: Callable[[Tensor, Tensor], Tensor] | None = None,
        extra: Extra | None = None,
        on_step: Callable[[Tensor], None] | None = None,
        may_diverge: bool = False,
    ) -> None:
        values = network.values
        here: dict[str, Any] = {"device": values.device, "dtype": values.dtype}
        configs = [config] * len(seeds) if isinstance(config, FitConfig) else list(config)
        self.network, self._task, self._config = network, task, common(configs)
        self._perturb, self._extra, self._may_diverge = perturb, extra, may_diverge
        self._on_step = on_step
        specs = [own.ent_coef for own in configs] if ent_coefs is None else list(ent_coefs)
        self._ent_coef = EntropyCoefficient(
            specs, target=0.0, controller=ProportionalIntegral, initial=_INITIAL, **here
        )
        self._is_steered = not bool(self._ent_coef.target.isnan().all())
        self._learning_rate = ScheduledValue([own.learning_rate for own in configs], **here)
        self._optimizer = optimizer_of(configs, values)
        self._l1, self._l2 = (per_run([getattr(own, name) for own in configs], values) for name in ("l1", "l2"))
        self._order, self._noise = (Stream(seeds, use, device=values.device) for use in ("minibatches", "dropout"))
        self.history: dict[str, list[Tensor]] = {"loss": [], "ent_coef": []}
        self.n_epochs = torch.zeros(len(seeds), dtype=torch.int64)
        self.watcher = UNWATCHED
        self._patience: _Patience | None = None
        self.diverged = torch.zeros(len(seeds), dtype=torch.bool, device=values.device)

    @property
    def ent_coef(self) -> Tensor:
        """The entropy weights as they are now, ``[R]``; after early stopping those that the best weights had."""
        return self._ent_coef.value

    def run(
        self,
        table: Table,
        rows: Tensor,
        held_out: Tensor | None = None,
        on_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """Train for all epochs that are left, or until every run has stopped.

        Args:
            table: what there is.
            rows: ``[R, n]``, of the table, for training.
            held_out: ``[R, m]``, for early stopping.
            on_epoch: called after each epoch with its number from 1 and the training losses ``[R]``. If it raises, the
                same call goes on from there.

        Raises:
            ConfigError: a loss is not finite, and runs may not diverge.
        """
        device = self.network.values.device
        rows, held_out = rows.to(device), None if held_out is None else held_out.to(device)
        self.prepare(early_stopping=held_out is not None)
        patience = self._patience
        for epoch in range(self.n_done, self._config.n_epochs):
            going = self._going()
            if going is not None and not going.any():
                break
            loss = self.epoch(table, rows, going)
            if patience is not None and held_out is not None:
                loss_held_out = patience.judge(*self._losses_of(table, held_out), self.ent_coef)
                self.history.setdefault("validation_loss", []).append(loss_held_out)
            if on_epoch is not None:
                on_epoch(epoch + 1, loss)
        if patience is not None:
            patience.restore_best()
            self.ent_coef.copy_(patience.ent_coef)

    def prepare(self, *, early_stopping: bool) -> None:
        """Make all that :meth:`run` works with, so that a state of one on its way can be put back."""
        if early_stopping and self._patience is None:
            self._patience = _Patience(self.network, self._config)

    @property
    def n_done(self) -> int:
        """Epochs that were passed."""
        return len(self.history["loss"])

    def _going(self) -> Tensor | None:
        """Who is still trained, ``[R]``; None if nobody can have stopped."""
        stopped = self.diverged if self._may_diverge and bool(self.diverged.any()) else None
        if self._patience is None:
            return None if stopped is None else ~stopped
        return self._patience.active if stopped is None else self._patience.active & ~stopped

    def epoch(self, table: Table, rows: Tensor, active: Tensor | None = None) -> Tensor:
        """One pass over ``rows [R, n]`` by the runs that are ``active [R]``; their mean losses ``[R]``.

        Raises:
            ConfigError: a loss is not finite, and runs may not diverge.
        """
        n_rows, done = rows.shape[1], self.n_done
        size = min(self._config.batch_size or n_rows, n_rows)
        rows = rows.to(self.network.values.device)
        if size < n_rows:
            rows = rows.gather(1, self._order.permutation(n_rows))
        batches = _minibatches(rows, size)
        mean_weight = None if table.weight is None else table.weight[rows].mean(1)
        total, entropy = torch.zeros_like(self.ent_coef), torch.zeros_like(self.ent_coef)
        for i, batch in enumerate(batches):
            progress = (done + i / len(batches)) / self._config.n_epochs
            loss, level = self._step(table, batch, mean_weight, progress, active)
            total += loss * (batch.shape[1] / n_rows)
            entropy += level * (batch.shape[1] / n_rows)
        going = slice(None) if active is None else active
        self.diverged[going] |= ~total[going].isfinite()
        if not self._may_diverge and self.diverged.any():
            raise ConfigError(
                f"the loss is not finite after {done + 1} epochs: scale the inputs (StandardScaler), or lower "
                f"learning_rate, now {self._config.learning_rate}"
            )
        if self._is_steered:
            self._ent_coef.steer(entropy, self._learning_rate.value)
        self.history["loss"].append(total)
        self.history["ent_coef"].append(self.ent_coef.clone())
        self.n_epochs += 1 if active is None else active.cpu().to(torch.int64)
        return total

    def _step(
        self, table: Table, batch: Tensor, mean_weight: Tensor | None, progress: float, active: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One gradient step on rows ``batch [R, B]``; the loss and the mean entropy, ``[R]`` each."""
        network, x, target = self.network, _take(table.x, batch), _take(table.target, batch)
        if self._perturb is not None:
            x = self._perturb(x, target)
        weight = None
        if table.weight is not None and mean_weight is not None:
            weight = _take(table.weight, batch) / mean_weight.unsqueeze(1)
        drawn = self._noise.position
        outputs = network(x, training=True, noise=self._noise)
        loss = _mean(self._task.loss(outputs, target, self._ent_coef.at(progress).unsqueeze(1)), weight)
        if self._extra is not None:
            loss = loss + self._extra(network, progress, self._noise)
        if self._on_step is not None:
            self._on_step(loss.detach())
        network.backward(loss)
        self._regularise()
        if self._config.max_grad_norm is not None:
            clip_grad_norm_(network.grads, self._config.max_grad_norm)
        with self._watched(partial(self._terms, x, target, weight, progress, drawn)):
            self._optimizer.step(network.values, network.grads, self._learning_rate.at(progress), active)
        level = self._task.entropy(outputs.detach()).mean(1) if self._is_steered else loss.detach()
        return loss.detach(), level

    def _watched(self, terms: Callable[[], Terms]) -> AbstractContextManager[None]:
        """A context around a step in which the watcher may look at the networks, if they are our own."""
        if self.watcher is UNWATCHED or not isinstance(self.network, Perceptrons):
            return nullcontext()
        return self.watcher.step("network", self.network.params, self._optimizer, terms)

    def _terms(self, x: Tensor, target: Tensor, weight: Tensor | None, progress: float, drawn: int | Tensor) -> Terms:
        """The loss of a step in two, with the noise that it had; leaves no trace."""
        network, after = cast(Perceptrons, self.network), self._noise.position
        self._noise.position = drawn
        with network.undisturbed():
            outputs = network(x, training=True, noise=self._noise)
            task = _mean(self._task.loss(outputs, target, torch.zeros_like(self.ent_coef).unsqueeze(1)), weight)
            if self._extra is not None:
                task = task + self._extra(network, progress, self._noise)
        self._noise.position = after
        entropy = self._task.entropy(outputs)
        term = entropic_loss(torch.zeros_like(entropy), entropy, ent_coef=self.ent_coef.unsqueeze(1))
        return Terms(task, _mean(term, weight))

    @torch.no_grad()
    def _regularise(self) -> None:
        """Add the gradients of the penalties on weights."""
        values, grads, weights = self.network.values, self.network.grads, self.network.is_weight
        for strength, slope in ((self._l2, values), (self._l1, values.sign() if self._l1 is not None else values)):
            if isinstance(strength, float):
                grads.addcmul_(slope, weights.to(values.dtype), value=strength)
            elif strength is not None:
                grads.addcmul_(slope, weights.to(values.dtype) * strength)

    @torch.no_grad()
    def _losses_of(self, table: Table, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the loss without its entropy and of the entropy, ``[R]`` each, of ``rows [R, m]`` in prediction."""
        outputs = self.network(_take(table.x, rows))
        losses = self._task.loss(outputs, _take(table.target, rows), torch.zeros_like(self.ent_coef).unsqueeze(1))
        weight = torch.ones_like(losses) if table.weight is None else _take(table.weight, rows)
        share = weight / weight.sum(1, keepdim=True)
        return (losses * share).sum(1), (self._task.entropy(outputs) * share).sum(1)


class _Patience:
    """Early stopping of each run by itself: how long it fails to improve, its best weights and their entropy weight.

    Weights are compared by the loss with the entropy weight of now: as it moves, losses of other epochs are of another
    scale.
    """

    def __init__(self, network: Network, config: FitConfig) -> None:
        self._network, self._config = network, config
        self._data_loss = torch.full_like(network.values[:, 0], torch.inf)
        self._entropy = torch.zeros_like(self._data_loss)
        self._state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self._waited = torch.zeros_like(self._data_loss)
        self.ent_coef = torch.zeros_like(self._data_loss)
        self.active = torch.ones_like(self._data_loss, dtype=torch.bool)

    def judge(self, data_loss: Tensor, entropy: Tensor, ent_coef: Tensor) -> Tensor:
        """Take in what validation rows say after an epoch, ``[R]`` each, and give their loss."""
        loss = entropic_loss(data_loss, entropy, ent_coef=ent_coef)
        best = entropic_loss(self._data_loss, self._entropy, ent_coef=ent_coef)
        improved = self.active & (loss < best - self._config.tol)
        for name, tensor in self._network.state_dict().items():
            self._state[name][improved] = tensor[improved]
        self._data_loss = data_loss.where(improved, self._data_loss)
        self._entropy = entropy.where(improved, self._entropy)
        self.ent_coef = ent_coef.where(improved, self.ent_coef)
        self._waited = torch.where(improved, 0.0, self._waited + 1.0)
        self.active &= self._waited < self._config.n_epochs_no_change
        return loss

    def restore_best(self) -> None:
        """Put the best weights back."""
        self._network.load_state_dict(self._state)


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Of ``losses [R, B]`` that count by ``weight [R, B]``, ``[R]``."""
    return (losses if weight is None else losses * weight).mean(1)


def n_minibatches(n_rows: int, batch_size: int | None) -> int:
    """Gradient steps of an epoch over ``n_rows`` rows."""
    return len(_minibatches(torch.empty(1, n_rows), min(batch_size or n_rows, n_rows)))


def _minibatches(rows: Tensor, size: int) -> list[Tensor]:
    """``rows [R, n]`` in pieces of ``size``; a single row left over, which has no variance, joins the piece before."""
    pieces = list(rows.split(size, 1))
    if pieces[-1].shape[1] == 1 < size and len(pieces) > 1:
        pieces[-2:] = [torch.cat(pieces[-2:], 1)]
    return pieces


def _take(table: Tensor, rows: Tensor) -> Tensor:
    """``table [N, ...]`` at ``rows [R, B]``, ``[R, B, ...]``."""
    return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)
