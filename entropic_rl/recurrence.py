"""Recurrent layers of R runs at once: GRU and LSTM, over one step or over a sequence in which episodes may begin.

Sources: Cho et al. (2014), https://arxiv.org/abs/1406.1078 (GRU, here in the variant of torch.nn.GRU, whose reset gate
acts after the product); Hochreiter and Schmidhuber (1997), https://doi.org/10.1162/neco.1997.9.8.1735, with the forget
gate of Gers et al. (2000).

Only the product with the state has to wait for the step before. All else of a sequence, the gradients of the weights
included, is batched over the steps; the loops below hold what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from entropic_rl.networks import ParameterRows, linear, orthogonal, tanh
from entropic_rl.streams import Stream

__all__ = ["GRU", "LSTM"]

_BLOCK = 2**17  # numbers in the gates of the steps that a gradient is computed for at once


@dataclass(frozen=True, slots=True)
class GRU:
    """Gated recurrent unit; its state is its output.

    ``r = sigmoid(x W_r + h U_r + b_r)``, ``z = sigmoid(x W_z + h U_z + b_z)``,
    ``n = tanh(x W_n + b_n + r (h U_n + c))``, ``h' = (1 - z) n + z h``.

    ``{name}.input.weight [R, in, 3 out]`` is W, ``{name}.state.weight [R, out, 3 out]`` U, with the columns of r, z and
    n side by side; ``{name}.input.bias`` is b, ``{name}.state.bias`` c. torch.nn.GRU has c for r and z too, where it
    only adds to b.
    """

    name: str
    n_inputs: int
    n_outputs: int

    @property
    def n_state(self) -> int:
        """Numbers in the state of a sample."""
        return self.n_outputs

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        return {
            f"{self.name}.input.weight": (self.n_inputs, 3 * self.n_outputs),
            f"{self.name}.input.bias": (1, 3 * self.n_outputs),
            f"{self.name}.state.weight": (self.n_outputs, 3 * self.n_outputs),
            f"{self.name}.state.bias": (1, self.n_outputs),
        }

    def step(self, params: ParameterRows, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x [R, B, in]`` and ``state [R, B, n_state]`` -> output ``[R, B, out]`` and the new state."""
        gates, new = _split(_project(params, self.name, x), self.n_outputs)
        by_gates, by_new = _split(params[f"{self.name}.state.weight"], self.n_outputs)
        bias = params[f"{self.name}.state.bias"]
        state = _gru_step(gates, new, state, by_gates=by_gates, by_new=by_new, bias=bias)
        return state, state

    def __call__(self, params: ParameterRows, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """L steps in a row; the state is zero again before each step at which an episode starts.

        Args:
            params: of all runs.
            x: ``[R, L, B, in]``.
            state: before the first step, ``[R, B, n_state]``.
            starts: ``[R, L, B]``, bool; no gradient flows back over a start.

        Returns:
            The outputs, ``[R, L, B, out]``, and the states after each step, ``[R, L, B, n_state]``.
        """
        weight, bias = params[f"{self.name}.state.weight"], params[f"{self.name}.state.bias"]
        gates = _project_sequence(params, self.name, x)
        states = cast(Tensor, _GRUSequence.apply(gates, weight, bias, state, starts.unsqueeze(-1)))  # type: ignore[no-untyped-call]
        return states, states

    @torch.no_grad()
    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """An orthogonal matrix for each gate and zero biases, each run from its own stream.

        Source: Saxe et al. (2014), https://arxiv.org/abs/1312.6120.
        """
        _initialise(params, self.name, stream, n_gates=3)
        params[f"{self.name}.state.bias"].zero_()


@dataclass(frozen=True, slots=True)
class LSTM:
    """Long short-term memory; its state is output h and cell c side by side.

    ``o, i, f = sigmoid(x W + h U + b)``, ``g = tanh(x W_g + h U_g + b_g)``, ``c' = f c + i g``, ``h' = o tanh(c')``.

    ``{name}.input.weight [R, in, 4 out]`` is W, ``{name}.state.weight [R, out, 4 out]`` U, ``{name}.input.bias`` b,
    with the columns of o, i, f and g side by side. torch.nn.LSTM has another order, and a second bias that only adds.
    """

    name: str
    n_inputs: int
    n_outputs: int

    @property
    def n_state(self) -> int:
        """Numbers in the state of a sample."""
        return 2 * self.n_outputs

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        return {
            f"{self.name}.input.weight": (self.n_inputs, 4 * self.n_outputs),
            f"{self.name}.input.bias": (1, 4 * self.n_outputs),
            f"{self.name}.state.weight": (self.n_outputs, 4 * self.n_outputs),
        }

    def step(self, params: ParameterRows, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``x [R, B, in]`` and ``state [R, B, n_state]`` -> output ``[R, B, out]`` and the new state."""
        state = _lstm_step(_project(params, self.name, x), params[f"{self.name}.state.weight"], state)
        return state[..., : self.n_outputs], state

    def __call__(self, params: ParameterRows, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """L steps in a row; the state is zero again before each step at which an episode starts.

        Args:
            params: of all runs.
            x: ``[R, L, B, in]``.
            state: before the first step, ``[R, B, n_state]``.
            starts: ``[R, L, B]``, bool; no gradient flows back over a start.

        Returns:
            The outputs, ``[R, L, B, out]``, and the states after each step, ``[R, L, B, n_state]``.
        """
        weight, gates = params[f"{self.name}.state.weight"], _project_sequence(params, self.name, x)
        states = cast(Tensor, _LSTMSequence.apply(gates, weight, state, starts.unsqueeze(-1)))  # type: ignore[no-untyped-call]
        return states[..., : self.n_outputs], states

    @torch.no_grad()
    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """An orthogonal matrix for each gate, zero biases, but one for the forget gate: memory is kept at first.

        Sources: Saxe et al. (2014), https://arxiv.org/abs/1312.6120; Jozefowicz et al. (2015),
        https://proceedings.mlr.press/v37/jozefowicz15.html (forget gate).
        """
        _initialise(params, self.name, stream, n_gates=4)
        params[f"{self.name}.input.bias"][..., 2 * self.n_outputs : 3 * self.n_outputs] = 1.0


def _project(params: ParameterRows, name: str, x: Tensor) -> Tensor:
    """What inputs ``[R, B, in]`` add to the gates, ``[R, B, gates]``."""
    return linear(x, params[f"{name}.input.weight"], params[f"{name}.input.bias"])


def _project_sequence(params: ParameterRows, name: str, x: Tensor) -> Tensor:
    """The same of a sequence ``[R, L, B, in]`` in one product, ``[R, L, B, gates]``."""
    return _project(params, name, x.flatten(1, 2)).unflatten(1, x.shape[1:3])


def _initialise(params: ParameterRows, name: str, stream: Stream, *, n_gates: int) -> None:
    for part in ("input", "state"):
        weight = params[f"{name}.{part}.weight"]
        for gate in weight.chunk(n_gates, -1):
            gate.copy_(orthogonal(stream, *gate.shape[1:]))
    params[f"{name}.input.bias"].zero_()


def _split(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The columns of the gates and of the new state, ``[..., 3 H] -> [..., 2 H], [..., H]``."""
    return x[..., : 2 * size], x[..., 2 * size :]


def _gru_step(gates: Tensor, new: Tensor, state: Tensor, *, by_gates: Tensor, by_new: Tensor, bias: Tensor) -> Tensor:
    """The state after ``state [R, B, H]``, where the inputs add ``gates [R, B, 2 H]`` and ``new [R, B, H]``."""
    reset, update = torch.baddbmm(gates, state, by_gates).sigmoid_().chunk(2, -1)
    new = tanh(torch.addcmul(new, reset, torch.baddbmm(bias, state, by_new)))
    return torch.lerp(new, state, update)


def _lstm_step(gates: Tensor, weight: Tensor, state: Tensor) -> Tensor:
    """The state after ``state [R, B, 2 H]``, where the inputs add ``gates [R, B, 4 H]``."""
    h, c = state.chunk(2, -1)
    squashed, new = torch.baddbmm(gates, h, weight).tensor_split([3 * h.shape[-1]], -1)
    output, enter, keep = squashed.sigmoid().chunk(3, -1)
    c = torch.addcmul(enter * tanh(new), keep, c)
    return torch.cat([output * tanh(c), c], -1)


class _GRUSequence(torch.autograd.Function):
    """``gates [R, L, B, 3 H], weight [R, H, 3 H], bias [R, 1, H], state [R, B, H], starts [R, L, B, 1]`` -> states
    after each step, ``[R, L, B, H]``.

    The gradient is written out because autograd would sum that of the weights step by step: most of the time of a
    small network. It is made of differentiable operations, so that it can be differentiated again.
    """

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, bias: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        gates, new = _split(gates, state.shape[-1])
        by_gates, by_new = _split(weight, state.shape[-1])
        states = []
        for gate, fresh, start in zip(gates.unbind(1), new.unbind(1), starts.unbind(1), strict=True):
            state = state.masked_fill(start, 0.0)
            state = _gru_step(gate, fresh, state, by_gates=by_gates, by_new=by_new, bias=bias)
            states.append(state)
        return torch.stack(states, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight, bias, state, starts, states = ctx.saved_tensors
        later, parts = torch.zeros_like(state), []
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for block in _blocks(gates):
            before = _before(state, states, starts, block)
            direct = grads[0][:, block]
            part, products, later = _gru_back(gates[:, block], weight, bias, before, direct=direct, later=later)
            parts.append(part)
            by_weight = torch.baddbmm(by_weight, before.values.flatten(1, 2).mT, products)
            by_bias = by_bias + products[..., 2 * state.shape[-1] :].sum(1, keepdim=True)
        return torch.cat(parts[::-1], 1), by_weight, by_bias, later, None


class _LSTMSequence(torch.autograd.Function):
    """``gates [R, L, B, 4 H], weight [R, H, 4 H], state [R, B, 2 H], starts [R, L, B, 1]`` -> states after each step,
    ``[R, L, B, 2 H]``; the gradient is written out as that of the GRU."""

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        states = []
        for gate, start in zip(gates.unbind(1), starts.unbind(1), strict=True):
            state = _lstm_step(gate, weight, state.masked_fill(start, 0.0))
            states.append(state)
        return torch.stack(states, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, weight, state, starts, states = ctx.saved_tensors
        size = weight.shape[1]
        later, parts, by_weight = torch.zeros_like(state), [], torch.zeros_like(weight)
        for block in _blocks(gates):
            before, cells = _before(state, states, starts, block), states[:, block, :, size:]
            direct = grads[0][:, block]
            part, later = _lstm_back(gates[:, block], weight, before, cells, direct=direct, later=later)
            parts.append(part)
            by_weight = torch.baddbmm(by_weight, before.values[..., :size].flatten(1, 2).mT, part.flatten(1, 2))
        return torch.cat(parts[::-1], 1), by_weight, later, None


class _Before(NamedTuple):
    """What each step of a block found: ``values [R, T, B, n_state]``; ``keep [R, T, B, 1]`` is 0 at a start."""

    values: Tensor
    keep: Tensor


def _before(state: Tensor, states: Tensor, starts: Tensor, block: slice) -> _Before:
    first = states[:, block.start - 1] if block.start else state
    values = torch.cat([first.unsqueeze(1), states[:, block.start : block.stop - 1]], 1)
    return _Before(values.masked_fill(starts[:, block], 0.0), (~starts[:, block]).to(state.dtype))


def _blocks(gates: Tensor) -> list[slice]:
    """Stretches of steps, the last first, whose tensors stay small: fresh memory for long ones costs more than they."""
    n_steps = gates.shape[1]
    size = max(1, _BLOCK * n_steps // gates.numel())
    return [slice(start, min(start + size, n_steps)) for start in range(0, n_steps, size)][::-1]


def _gru_back(
    gates: Tensor, weight: Tensor, bias: Tensor, before: _Before, *, direct: Tensor, later: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Back through a block of T steps, from the gradient of the loss by its states: ``direct [R, T, B, H]`` and,
    by the last of them through the steps after the block, ``later [R, B, H]``.

    Returns:
        The gradient by ``gates``, by the products with the state ``[R, T * B, 3 H]``, and by the state before.
    """
    size = later.shape[-1]
    squashed, fresh = _split(gates, size)
    by_gates, by_new = _split(weight, size)
    flat = before.values.flatten(1, 2)
    from_state = torch.baddbmm(bias, flat, by_new).view_as(direct)
    reset, update = (squashed + (flat @ by_gates).view_as(squashed)).sigmoid().chunk(2, -1)
    new = tanh(torch.addcmul(fresh, reset, from_state))

    # Derivatives of each state by what enters r, z and n, the last one through the input and through the product.
    into_new = (1.0 - update) * (1.0 - new * new)
    into_reset = into_new * from_state * reset * (1.0 - reset)
    into_update = (before.values - new) * update * (1.0 - update)
    slopes = torch.stack([into_reset, into_update, into_new * reset], -2)  # [R, T, B, 3, H]

    totals, products, back = [], [], weight.mT
    steps = zip(*(x.unbind(1) for x in (direct, slopes, update, before.keep)), strict=True)
    for given, slope, kept, keep in reversed(list(steps)):
        total = given + later
        product = (slope * total.unsqueeze(-2)).flatten(-2)
        later = torch.baddbmm(total * kept, product, back) * keep
        totals.append(total)
        products.append(product)
    by_products = torch.stack(products[::-1], 1)  # [R, T, B, 3 H]
    by_fresh = torch.stack(totals[::-1], 1) * into_new
    return torch.cat([by_products[..., : 2 * size], by_fresh], -1), by_products.flatten(1, 2), later


def _lstm_back(
    gates: Tensor, weight: Tensor, before: _Before, cells: Tensor, *, direct: Tensor, later: Tensor
) -> tuple[Tensor, Tensor]:
    """Back through a block of T steps as :func:`_gru_back`, with ``cells [R, T, B, H]`` after the steps.

    Returns:
        The gradient by ``gates``, which is that by the products too, and by the state before, ``[R, B, 2 H]``.
    """
    size = cells.shape[-1]
    h_before, c_before = before.values.chunk(2, -1)
    squashed, new = (gates + (h_before.flatten(1, 2) @ weight).view_as(gates)).tensor_split([3 * size], -1)
    output, enter, kept = squashed.sigmoid().chunk(3, -1)
    new, shown = tanh(new), tanh(cells)

    # Derivatives of h by what enters o and by c', and of c' by what enters i, f and g.
    into_output = shown * output * (1.0 - output)
    into_cell = output * (1.0 - shown * shown)
    into_enter, into_kept = new * enter * (1.0 - enter), c_before * kept * (1.0 - kept)
    slopes = torch.stack([into_enter, into_kept, enter * (1.0 - new * new)], -2)  # [R, T, B, 3, H]

    products, back = [], weight.mT
    later_h, later_c = later.chunk(2, -1)
    kept, given_h, given_c = kept * before.keep, direct[..., :size], direct[..., size:]
    factors = (given_h, given_c, into_output, into_cell, slopes, kept, before.keep)
    for by_h, by_c, to_output, to_cell, slope, carry, keep in reversed(
        list(zip(*(x.unbind(1) for x in factors), strict=True))
    ):
        total_h = by_h + later_h
        total_c = torch.addcmul(by_c + later_c, total_h, to_cell)
        product = torch.cat([to_output * total_h, (slope * total_c.unsqueeze(-2)).flatten(-2)], -1)
        later_h, later_c = torch.bmm(product, back) * keep, total_c * carry
        products.append(product)
    return torch.stack(products[::-1], 1), torch.cat([later_h, later_c], -1)
