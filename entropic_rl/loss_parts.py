"""A gradient step taken apart: what goes into it as tensors by name, and what its loss is made of, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

from entropic_rl.distributions import Distribution
from entropic_rl.on_policy import LossParts, Samples, normalize_advantage
from entropic_rl.policies import ActorCritic
from entropic_rl.sequences import Sequences

__all__ = ["Part", "flat", "of_actor_critic", "of_distribution", "unflat"]

Part = tuple[str, Tensor]
"""A name and numbers, ``[R, ...]``."""
T = TypeVar("T")


def flat(**given: Any) -> dict[str, Tensor]:
    """Tensors in dataclasses and mappings by their path, ``batch.obs``; what is None or no tensor is left out."""
    found: dict[str, Tensor] = {}
    for name, item in given.items():
        if isinstance(item, Tensor):
            found[name] = item
        elif isinstance(item, Mapping):
            found |= {f"{name}.{path}": tensor for path, tensor in flat(**item).items()}
        elif is_dataclass(item):
            found |= flat(**{name: {field.name: getattr(item, field.name) for field in fields(item)}})
    return found


def unflat(cls: type[T], name: str, tensors: Mapping[str, Tensor]) -> T:
    """The dataclass of tensors, and of :class:`Sequences`, that :func:`flat` took apart under ``name``."""

    def part(path: str) -> Any:
        is_nested = any(other.startswith(f"{path}.") for other in tensors)
        return unflat(Sequences, path, tensors) if is_nested else tensors.get(path)

    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    return cls(**{field: part(f"{name}.{field}") for field in names})


def of_distribution(distribution: Distribution) -> Iterator[Part]:
    """What the head gave: logits, or means and log standard deviations; ``[R, B, ...]``."""
    for name, numbers in flat(distribution=distribution).items():
        if numbers.is_floating_point():
            yield name.removeprefix("distribution."), numbers


def of_actor_critic(
    policy: ActorCritic, batch: Samples, loss: Callable[[], LossParts], *, normalize: bool
) -> Iterator[Part]:
    """The parts of an actor-critic's loss, the loss itself ``[R]`` at the end.

    Args:
        policy: the networks.
        batch: what they learn from.
        loss: computes it, as in training.
        normalize: whether advantages are normalised.
    """
    distribution, value = policy.evaluate(batch.obs, batch.mask, batch.sequences)
    yield from of_distribution(distribution)
    yield "value", value
    yield "log-probability", distribution.log_prob(batch.action)
    yield "entropy", distribution.entropy()
    if normalize:
        yield "advantage, normalised", normalize_advantage(batch.advantage, batch.valid)[0]
    parts = loss()
    yield "policy loss", parts.policy
    yield "entropy bonus", parts.bonus
    yield "weight of the bonus", parts.ent_coef
    yield "value loss", parts.critic
    yield "loss", parts.total
