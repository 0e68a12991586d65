"""Learning to learn: bodies trained on tasks like those that they will meet; R runs, each on its own classes."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.few_labels.episodes import EpisodeSampler
from entropic_rl.few_labels.prototypical import prototype_logits
from entropic_rl.losses.supervised import entropic_cross_entropy
from entropic_rl.optimizers import SGD, Adam
from entropic_rl.supervised.networks import Perceptrons

__all__ = ["reptile", "train_prototypical"]


def train_prototypical(
    network: Perceptrons,
    x: Tensor,
    sampler: EpisodeSampler,
    *,
    n_steps: int,
    learning_rate: float = 1e-3,
    ent_coef: float = 0.0,
) -> Tensor:
    """Train embeddings so that queries lie near the prototype of their class; in place, losses ``[n_steps, R]``.

    The loss is the entropic cross-entropy of the softmax of negative squared distances, one task per run and step.

    Args:
        network: R perceptrons whose outputs are the embedding.
        x: ``[n, D]``, all rows.
        sampler: of tasks.
        n_steps: of Adam.
        learning_rate: its step size.
        ent_coef: entropy weight.

    Source: Snell, Swersky & Zemel (2017), algorithm 1, https://arxiv.org/abs/1703.05175.
    """
    optimizer, rates = Adam(network.values, eps=1e-8), torch.full_like(network.values[:, 0], learning_rate)
    losses = []
    for _ in range(n_steps):
        episodes = sampler.draw(1)
        support, query = episodes.support[:, 0], episodes.query[:, 0]  # [R, N, K], [R, N, Q]
        rows = torch.cat([support.flatten(1), query.flatten(1)], 1)
        embedded = network(x[rows], training=True)
        known, asked = embedded.split([support[0].numel(), query[0].numel()], 1)
        logits = prototype_logits(asked, known.unflatten(1, support.shape[1:]).mean(2))
        target = episodes.ways(query).expand(len(rows), -1)
        loss = entropic_cross_entropy(logits, target, ent_coef=ent_coef, dim=-1).mean(1)
        network.backward(loss)
        optimizer.step(network.values, network.grads, rates)
        losses.append(loss.detach())
    return torch.stack(losses)


def reptile(
    network: Perceptrons,
    x: Tensor,
    sampler: EpisodeSampler,
    *,
    n_iterations: int,
    n_tasks: int = 5,
    inner_steps: int = 5,
    inner_rate: float = 0.1,
    outer_rate: float = 1.0,
) -> Tensor:
    """Move weights to where a few steps solve a task: the first-order meta-learning of Reptile; in place.

    ``theta <- theta + outer (mean_i theta_i - theta)``, where theta_i is theta after ``inner_steps`` of gradient
    descent on all support rows of task i; outer falls linearly to 0. Tasks number their classes anew each time.

    Args:
        network: R perceptrons with an output for each way.
        x: ``[n, D]``, all rows.
        sampler: of tasks; its queries are not used.
        n_iterations: of the outer loop.
        n_tasks: of each run and iteration.
        inner_steps: gradient steps of each task.
        inner_rate: their size.
        outer_rate: in (0, 1], where it begins.

    Returns:
        The losses of the tasks after the last step but one, ``[n_iterations, R]``.

    Source: Nichol, Achiam & Schulman (2018), algorithm 2, https://arxiv.org/abs/1803.02999.
    """
    n_runs = len(network.values)
    copies = torch.arange(n_runs, device=network.values.device).repeat_interleave(n_tasks)
    losses = []
    for iteration in range(n_iterations):
        support = sampler.draw(n_tasks).support.flatten(0, 1)  # [R tasks, N, K]
        target = torch.arange(support.shape[1]).repeat_interleave(support.shape[2]).expand(len(support), -1)
        rows, tasks = x[support.flatten(1)], network.take(copies)
        optimizer, rates = SGD(tasks.values, 0.0), torch.full_like(tasks.values[:, 0], inner_rate)
        for _ in range(inner_steps):
            loss = entropic_cross_entropy(tasks(rows, training=True), target, dim=-1).mean(1)
            tasks.backward(loss)
            optimizer.step(tasks.values, tasks.grads, rates)
        mean = tasks.values.view(n_runs, n_tasks, -1).mean(1)
        network.values.lerp_(mean, outer_rate * (1.0 - iteration / n_iterations))
        losses.append(loss.detach().view(n_runs, n_tasks).mean(1))
    return torch.stack(losses)
