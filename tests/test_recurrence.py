"""Recurrent layers of many runs against torch.nn.GRU and torch.nn.LSTM, one run at a time."""

import pytest
import torch
from torch import nn

from entropic_rl.networks import ParameterRows
from entropic_rl.recurrence import GRU, LSTM
from entropic_rl.streams import Stream

SEEDS = [10, 20, 30]
R, L, B, N_IN, N_OUT = 3, 7, 4, 3, 5

both_kinds = pytest.mark.parametrize("kind", [GRU, LSTM])


@pytest.fixture(params=["one step at once", "three steps", "all"])
def blocks(request, monkeypatch):
    """Gradients are computed in blocks of steps; sequences as short as these would always be one."""
    if request.param != "all":
        n_gates = R * B * N_OUT * 3 * 3  # those of the GRU over three steps
        monkeypatch.setattr("entropic_rl.recurrence._BLOCK", 1 if "one" in request.param else n_gates)


def build(kind, seeds=SEEDS, sizes=(N_IN, N_OUT), dtype=torch.float64):
    layer = kind("memory", *sizes)
    params = ParameterRows(layer.shapes(), len(seeds), dtype=dtype)
    layer.initialise(params, Stream(seeds, "initialisation"))
    return layer, params


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(kind, seeds=SEEDS):
    layer, params = build(kind, seeds)
    params.values.copy_(normal(*params.values.shape, seed=1) * 0.5)
    return layer, params


def sequence(layer):
    """Inputs, a first state that is not zero, and no episode starts."""
    return normal(R, L, B, N_IN), normal(R, B, layer.n_state, seed=2), torch.zeros(R, L, B, dtype=torch.bool)


def some_starts():
    """Starts at the first step, inside and at the last, for some samples."""
    starts = torch.zeros(R, L, B, dtype=torch.bool)
    starts[0, 0, 0] = starts[0, 3, 0] = starts[1, L - 1, 1] = starts[2, 2, 3] = starts[2, 3, 3] = True
    starts[1, 4] = True
    return starts


def as_torch(layer, named, run):
    """Parameters of one run as those of torch's module, whose gates are (r, z, n) and (i, f, g, o)."""
    weights = [named["memory.input.weight"][run].T, named["memory.state.weight"][run].T]
    bias = named["memory.input.bias"][run, 0]
    if isinstance(layer, GRU):
        zero = torch.zeros(2 * layer.n_outputs, dtype=bias.dtype)
        return [*weights, bias, torch.cat([zero, named["memory.state.bias"][run, 0]])]

    def ordered(t):
        output, enter, forget, new = t.chunk(4)
        return torch.cat([enter, forget, new, output])

    return [*(ordered(weight) for weight in weights), ordered(bias), torch.zeros_like(bias)]


def torchs(layer, named, run, x, state):
    """What torch's own module makes of one run's ``x [L, B, in]`` and ``state [B, n_state]``."""
    module = (nn.GRU if isinstance(layer, GRU) else nn.LSTM)(layer.n_inputs, layer.n_outputs, dtype=x.dtype)
    weights = dict(zip((name for name, _ in module.named_parameters()), as_torch(layer, named, run), strict=True))
    parts = tuple(part.contiguous().unsqueeze(0) for part in state.split(layer.n_outputs, -1))
    first = parts[0] if isinstance(layer, GRU) else parts
    outputs, last = torch.func.functional_call(module, weights, (x, first))
    return outputs, last[0] if isinstance(layer, GRU) else torch.cat(last, -1)[0]


def ending(layer, params, x, state, starts):
    """The outputs of a sequence and its last state."""
    outputs, states = layer(params, x, state, starts)
    return outputs, states[:, -1]


def looped(layer, params, x, state, starts):
    """The sequence step by step."""
    outputs = []
    for t in range(x.shape[1]):
        state = torch.where(starts[:, t].unsqueeze(-1), torch.zeros_like(state), state)
        output, state = layer.step(params, x[:, t], state)
        outputs.append(output)
    return torch.stack(outputs, 1), state


def close(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-12)


@both_kinds
def test_each_run_computes_what_torchs_module_computes(kind):
    layer, params = randomised(kind)
    x, state, starts = sequence(layer)
    outputs, last = ending(layer, params, x, state, starts)
    for run in range(R):
        close((outputs[run], last[run]), torchs(layer, params.named(), run, x[run], state[run]))


@pytest.mark.usefixtures("blocks")
@both_kinds
def test_gradients_are_those_of_torchs_module(kind):
    layer, params = randomised(kind)
    x, state, starts = sequence(layer)
    x.requires_grad_(), state.requires_grad_()
    named = {name: tensor.clone().requires_grad_() for name, tensor in params.named().items()}
    outputs, last = ending(layer, params, x, state, starts)
    found = torch.autograd.grad(
        outputs.square().sum() + last.sin().sum(), [x, state, *(params[name] for name in named)]
    )
    theirs = [torchs(layer, named, run, x[run], state[run]) for run in range(R)]
    loss = sum(outputs.square().sum() + last.sin().sum() for outputs, last in theirs)
    expected = torch.autograd.grad(loss, [x, state, *named.values()])
    assert all(gradient.ne(0.0).any() for gradient in expected)
    close(found, expected)


@both_kinds
def test_a_sequence_with_starts_equals_its_steps(kind):
    layer, params = randomised(kind)
    x, state, _ = sequence(layer)
    close(ending(layer, params, x, state, some_starts()), looped(layer, params, x, state, some_starts()))


@pytest.mark.usefixtures("blocks")
@both_kinds
def test_gradients_of_a_sequence_with_starts_equal_those_of_its_steps(kind):
    layer, params = randomised(kind)
    x, state, _ = sequence(layer)
    wanted = [x.requires_grad_(), state.requires_grad_(), *(params[name] for name in params.named())]

    def gradients(function):
        outputs, last = function(params, x, state, some_starts())
        return torch.autograd.grad(outputs.square().sum() + last.sin().sum(), wanted)

    close(gradients(lambda *args: ending(layer, *args)), gradients(lambda *args: looped(layer, *args)))


@both_kinds
def test_an_episode_that_starts_inside_a_sequence_is_the_one_that_starts_with_it(kind):
    layer, params = randomised(kind)
    x, state, starts = sequence(layer)
    starts[:, 3] = True
    outputs, last = ending(layer, params, x, state, starts)
    fresh = ending(layer, params, x[:, 3:], torch.zeros_like(state), starts[:, 3:])
    close((outputs[:, 3:], last), fresh)


@both_kinds
def test_no_gradient_flows_over_a_start(kind):
    layer, params = randomised(kind)
    x, state, starts = sequence(layer)
    starts[1, 3, 2] = True
    outputs, _ = ending(layer, params, x.requires_grad_(), state.requires_grad_(), starts)
    by_x, by_state = torch.autograd.grad(outputs[:, 3:].square().sum(), [x, state])
    assert by_x[1, :3, 2].eq(0.0).all()
    assert by_state[1, 2].eq(0.0).all()
    others = [b for b in range(B) if b != 2]
    assert by_x[1][:, others].ne(0.0).all()
    assert by_state[1, others].ne(0.0).all()


@both_kinds
def test_a_state_that_is_not_finite_ends_with_its_episode(kind):
    layer, params = randomised(kind)
    x, state, starts = sequence(layer)
    starts[:, 0] = True
    outputs, last = ending(layer, params, x, torch.full_like(state, torch.nan), starts)
    assert outputs.isfinite().all()
    assert last.isfinite().all()


@both_kinds
def test_sequences_in_two_halves_equal_the_whole(kind):
    layer, params = randomised(kind)
    x, state, _ = sequence(layer)
    starts = some_starts()
    whole, last = ending(layer, params, x, state, starts)
    first, middle = ending(layer, params, x[:, :4], state, starts[:, :4])
    second, end = ending(layer, params, x[:, 4:], middle, starts[:, 4:])
    close((whole, last), (torch.cat([first, second], 1), end))


@pytest.mark.usefixtures("blocks")
@both_kinds
def test_first_and_second_derivatives_are_those_of_finite_differences(kind):
    layer, params = build(kind, [1], (2, 2))
    x, state = normal(1, 3, 2, 2).requires_grad_(), normal(1, 2, layer.n_state, seed=2).requires_grad_()
    starts = torch.tensor([[[False, True], [True, False], [False, False]]])
    views = tuple(params[name] for name in params.named())

    def outputs(x, state, *_):
        return ending(layer, params, x, state, starts)

    assert torch.autograd.gradcheck(outputs, (x, state, *views))
    assert torch.autograd.gradgradcheck(outputs, (x, state, *views))


@both_kinds
def test_run_alone_equals_run_in_a_batch(kind):
    (layer, together), (_, alone) = build(kind), build(kind, SEEDS[1:2])
    close([together.values[1:2]], [alone.values])
    x, state, _ = sequence(layer)
    starts = some_starts()
    many, one = ending(layer, together, x, state, starts), ending(layer, alone, x[1:2], state[1:2], starts[1:2])
    close([tensor[1:2] for tensor in many], one)
    together.backward(many[0].square().sum((1, 2, 3)))
    alone.backward(one[0].square().sum((1, 2, 3)))
    close([together.grads[1:2]], [alone.grads])


@both_kinds
def test_gradient_of_a_run_does_not_depend_on_the_other_runs(kind):
    layer, params = randomised(kind)
    params.backward(ending(layer, params, *sequence(layer))[0][1].sum((0, 1, 2)))
    assert params.grads[1].ne(0.0).any()
    assert params.grads[[0, 2]].eq(0.0).all()


@both_kinds
def test_single_precision_gives_single_precision(kind):
    (layer, single), (_, double) = build(kind, dtype=torch.float32), build(kind)
    x, state, starts = sequence(layer)
    outputs, last = ending(layer, single, x.float(), state.float(), starts)
    assert outputs.dtype == last.dtype == torch.float32
    torch.testing.assert_close(outputs.double(), ending(layer, double, x, state, starts)[0], rtol=1e-4, atol=1e-5)


@both_kinds
def test_initial_weights_are_orthogonal_gate_by_gate(kind):
    layer, params = build(kind)
    n_gates = {GRU: 3, LSTM: 4}[kind]
    for part in ("input", "state"):
        weight = params.named()[f"memory.{part}.weight"]
        assert weight.shape[-1] == n_gates * layer.n_outputs
        for gate in weight.chunk(n_gates, -1):  # at most as many rows as columns
            identity = torch.eye(gate.shape[1], dtype=torch.float64).expand(R, -1, -1)
            torch.testing.assert_close(gate @ gate.mT, identity, rtol=1e-12, atol=1e-12)


def test_initial_biases_are_zero_but_for_the_forget_gate():
    assert build(GRU)[1].named()["memory.input.bias"].eq(0.0).all()
    assert build(GRU)[1].named()["memory.state.bias"].eq(0.0).all()
    output, enter, forget, new = build(LSTM)[1].named()["memory.input.bias"].chunk(4, -1)
    assert forget.eq(1.0).all()
    assert torch.stack([output, enter, new]).eq(0.0).all()


def test_names_and_shapes_of_the_parameters():
    assert GRU("gru", 3, 5).shapes() == {
        "gru.input.weight": (3, 15),
        "gru.input.bias": (1, 15),
        "gru.state.weight": (5, 15),
        "gru.state.bias": (1, 5),
    }
    assert LSTM("lstm", 3, 5).shapes() == {
        "lstm.input.weight": (3, 20),
        "lstm.input.bias": (1, 20),
        "lstm.state.weight": (5, 20),
    }


def test_state_of_an_lstm_is_output_and_cell_side_by_side():
    layer, params = randomised(LSTM)
    x, state, _ = sequence(layer)
    output, after = layer.step(params, x[:, 0], state)
    assert (GRU("m", 3, 5).n_state, layer.n_state) == (5, 10)
    assert torch.equal(after[..., :5], output)
