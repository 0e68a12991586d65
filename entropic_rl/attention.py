"""A small causal transformer of R runs at once, over the last observations of an episode.

Sources: Vaswani et al. (2017), https://arxiv.org/abs/1706.03762; Radford et al. (2019), "Language models are
unsupervised multitask learners" (normalisation before each part, residual weights scaled by depth).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.networks import MLP, ParameterRows, linear, orthogonal
from entropic_rl.streams import Stream

__all__ = ["Transformer"]


@dataclass(frozen=True, slots=True)
class Transformer:
    """``n_layers`` of attention and feed-forward (4 ``width``, GELU), each normalised before and added to its input.

    ``{name}.positions [R, context, width]`` holds an embedding for the newest observation, the one before it, and so
    on: an observation is known by its age, wherever in its episode it was made.

    Attributes:
        n_inputs: numbers in an observation.
        width: numbers in a feature vector, those returned included.
        n_heads: heads of attention, a divisor of ``width``.
        n_layers: at least one.
        context: K, how many observations are attended to at most.

    Raises:
        ValueError: if the heads do not divide the width, or there is no layer.
    """

    name: str
    n_inputs: int
    width: int
    n_heads: int
    n_layers: int
    context: int

    def __post_init__(self) -> None:
        if self.n_heads < 1 or self.width % self.n_heads:
            raise ValueError(
                f"width must be a multiple of n_heads, got width={self.width} and n_heads={self.n_heads}; change either"
            )
        if self.n_layers < 1:
            raise ValueError(
                f"n_layers must be at least 1, got {self.n_layers}; take an MLP to look at one observation"
            )

    @property
    def n_outputs(self) -> int:
        """Number of features."""
        return self.width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        width = self.width
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.name}.embedding.weight": (self.n_inputs, width),
            f"{self.name}.embedding.bias": (1, width),
            f"{self.name}.positions": (self.context, width),
        }
        for i in range(self.n_layers):
            layer = f"{self.name}.{i}"
            for part, n_out in (("query", width), ("key_value", 2 * width), ("merge", width)):
                shapes |= {f"{layer}.{part}.weight": (width, n_out), f"{layer}.{part}.bias": (1, n_out)}
            shapes |= self._feed_forward(i).shapes()
        for norm in self._norms():
            shapes |= {f"{norm}.weight": (1, width), f"{norm}.bias": (1, width)}
        return shapes

    def __call__(self, params: ParameterRows, x: Tensor, valid: Tensor) -> Tensor:
        """Features of the newest observation.

        Args:
            params: of all runs.
            x: observations, oldest first, ``[R, B, K, in]`` with K at most ``context``.
            valid: ``[R, B, K]``, bool, False before the episode began; the last one is always True. What is not valid
                influences neither value nor gradient, not even if it is not finite.

        Returns:
            ``[R, B, width]``.
        """
        n_seen = x.shape[2]
        x = x.masked_fill(~valid.unsqueeze(-1), 0.0)  # zero weights alone would let nan through
        x = _project(params, f"{self.name}.embedding", x)
        x = x + params[f"{self.name}.positions"][:, :n_seen].flip(1).unsqueeze(1)
        may_see = self._may_see(valid)
        for i in range(self.n_layers):
            layer = f"{self.name}.{i}"
            source = _normalise(params, f"{layer}.attention_norm", x)
            if i == self.n_layers - 1:  # nothing reads the other positions of the last layer
                x, may_see = x[:, :, -1:], may_see[..., -1:, :]
            x = x + self._attend(params, layer, source, may_see)
            hidden = _normalise(params, f"{layer}.feed_forward_norm", x)
            x = x + self._feed_forward(i)(params, hidden.flatten(1, 2)).view_as(x)
        return _normalise(params, f"{self.name}.norm", x).squeeze(2)

    @torch.no_grad()
    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """Orthogonal weights, those added to the residual scaled by depth; each run from its own stream.

        Biases are zero. Position embeddings are about as long as the embedding of an observation of length one.
        Sources: Saxe et al. (2014), https://arxiv.org/abs/1312.6120; Radford et al. (2019), section 2.3 (scale).
        """
        residual_gain = (2 * self.n_layers) ** -0.5
        params[f"{self.name}.positions"].copy_(stream.normal(self.context, self.width) * self.width**-0.5)
        _initialise(params, f"{self.name}.embedding", stream)
        for i in range(self.n_layers):
            layer = f"{self.name}.{i}"
            _initialise(params, f"{layer}.query", stream)
            _initialise(params, f"{layer}.key_value", stream, n_parts=2)
            _initialise(params, f"{layer}.merge", stream, gain=residual_gain)
            self._feed_forward(i).initialise(params, stream, gain=2.0**0.5, last_gain=residual_gain)
        for norm in self._norms():
            params[f"{norm}.weight"].fill_(1.0)
            params[f"{norm}.bias"].zero_()

    def _feed_forward(self, i: int) -> MLP:
        return MLP(f"{self.name}.{i}.feed_forward", (self.width, 4 * self.width, self.width), "gelu")

    def _norms(self) -> list[str]:
        parts = [f"{self.name}.{i}.{part}_norm" for i in range(self.n_layers) for part in ("attention", "feed_forward")]
        return [*parts, f"{self.name}.norm"]

    def _attend(self, params: ParameterRows, layer: str, source: Tensor, may_see: Tensor) -> Tensor:
        """Of ``source [R, B, K, width]`` for its last Q, ``may_see [R, B, 1, Q, K]`` -> ``[R, B, Q, width]``."""
        query = self._heads(_project(params, f"{layer}.query", source[:, :, -may_see.shape[-2] :]))
        key, value = (self._heads(x) for x in _project(params, f"{layer}.key_value", source).chunk(2, -1))
        # Written out: the fused kernels have no second derivative, and at a few dozen positions nothing to save.
        scores = query * query.shape[-1] ** -0.5 @ key.mT  # [R, B, heads, Q, K]
        weights = scores.masked_fill(~may_see, -torch.inf).softmax(-1)
        return _project(params, f"{layer}.merge", (weights @ value).transpose(2, 3).flatten(3))

    def _heads(self, x: Tensor) -> Tensor:
        """``[R, B, K, width] -> [R, B, heads, K, width / heads]``."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(2, 3)

    @staticmethod
    def _may_see(valid: Tensor) -> Tensor:
        """Which positions each may attend to, ``[R, B, K] -> [R, B, 1, K, K]``: the valid ones up to itself.

        Itself always: a position with nothing to see would be nan. Invalid ones are seen by no other.
        """
        n_seen = valid.shape[-1]
        itself = torch.eye(n_seen, dtype=torch.bool, device=valid.device)
        return ((valid.unsqueeze(-2) & itself.new_ones(n_seen, n_seen).tril()) | itself).unsqueeze(2)


def _project(params: ParameterRows, name: str, x: Tensor) -> Tensor:
    """``x [R, B, K, in] -> [R, B, K, out]``."""
    return linear(x.flatten(1, 2), params[f"{name}.weight"], params[f"{name}.bias"]).unflatten(1, x.shape[1:3])


def _normalise(params: ParameterRows, name: str, x: Tensor) -> Tensor:
    """Layer normalisation of ``x [R, B, K, width]``. Source: Ba et al. (2016), https://arxiv.org/abs/1607.06450."""
    standard = F.layer_norm(x, x.shape[-1:])
    return torch.addcmul(params[f"{name}.bias"].unsqueeze(1), standard, params[f"{name}.weight"].unsqueeze(1))


def _initialise(params: ParameterRows, name: str, stream: Stream, *, gain: float = 1.0, n_parts: int = 1) -> None:
    for part in params[f"{name}.weight"].chunk(n_parts, -1):
        part.copy_(orthogonal(stream, *part.shape[1:]) * gain)
    params[f"{name}.bias"].zero_()
