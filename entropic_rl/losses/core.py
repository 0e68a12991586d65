"""The entropic loss, where agents and classifiers meet, and the guard against silent broadcasting."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_same_shape", "entropic_loss"]


def entropic_loss(data_loss: Tensor, entropy: Tensor, *, ent_coef: float | Tensor) -> Tensor:
    """``data_loss - ent_coef * entropy`` per element, ``[...] -> [...]``: a positive coefficient rewards entropy.

    Args:
        data_loss: ``[...]``, what is minimised: a policy loss, a cross-entropy.
        entropy: ``[...]``, nats, same shape; positive for discrete distributions.
        ent_coef: the entropy weight (alpha in Haarnoja et al., lambda in entropic classification); a number, or a
            tensor that broadcasts against the elements, such as ``[R, 1]`` for R runs.

    Raises:
        ValueError: the shapes of ``data_loss`` and ``entropy`` differ.
    """
    check_same_shape(data_loss=data_loss, entropy=entropy)
    return data_loss - ent_coef * entropy


def check_same_shape(**tensors: Tensor) -> None:
    """Refuse silent broadcasting.

    Raises:
        ValueError: naming every argument and its shape, if they are not all the same.
    """
    first, *others = tensors.values()
    if any(other.shape != first.shape for other in others):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must agree, got {shapes}")
