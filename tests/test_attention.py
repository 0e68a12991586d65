"""The transformer of many runs against torch.nn's layers, one window of one run at a time."""

import pytest
import torch
from torch.nn import functional as F

from entropic_rl.attention import Transformer
from entropic_rl.networks import ParameterRows
from entropic_rl.streams import Stream

SEEDS = [10, 20, 30]
R, B, K, N_IN, WIDTH, HEADS = 3, 5, 6, 3, 8, 2


def build(seeds=SEEDS, n_layers=2, dtype=torch.float64):
    layer = Transformer("past", N_IN, WIDTH, HEADS, n_layers, K)
    params = ParameterRows(layer.shapes(), len(seeds), dtype=dtype)
    layer.initialise(params, Stream(seeds, "initialisation"))
    return layer, params


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(n_layers=2):
    layer, params = build(n_layers=n_layers)
    params.values.copy_(normal(*params.values.shape, seed=1) * 0.5)
    return layer, params


def some_valid():
    """Episodes that began 0 to 5 steps ago, a different age in each place."""
    ages = torch.arange(R * B).view(R, B) % K
    return torch.arange(K) >= K - 1 - ages.unsqueeze(-1)


def plain(layer, named, run, x):
    """Features of one run's episode so far, ``x [T, in]`` with nothing before it, by torch.nn.functional."""
    own = {name.removeprefix("past."): tensor[run] for name, tensor in named.items()}

    def project(name, x):
        return x @ own[f"{name}.weight"] + own[f"{name}.bias"]

    def norm(name, x):
        return F.layer_norm(x, (WIDTH,), own[f"{name}.weight"][0], own[f"{name}.bias"][0])

    x = torch.stack([project("embedding", x[t : t + 1])[0] + own["positions"][len(x) - 1 - t] for t in range(len(x))])
    for i in range(layer.n_layers):
        hidden = norm(f"{i}.attention_norm", x)
        query = project(f"{i}.query", hidden)
        key, value = project(f"{i}.key_value", hidden).split(WIDTH, -1)
        size = WIDTH // HEADS
        heads = [
            F.scaled_dot_product_attention(query[None, :, h], key[None, :, h], value[None, :, h], is_causal=True)[0]
            for h in (slice(j * size, (j + 1) * size) for j in range(HEADS))
        ]
        x = x + project(f"{i}.merge", torch.cat(heads, -1))
        hidden = project(f"{i}.feed_forward.0", norm(f"{i}.feed_forward_norm", x))
        x = x + project(f"{i}.feed_forward.1", F.gelu(hidden))
    return norm("norm", x[-1:])[0]


def plainly(layer, named, x, valid):
    """The same for all windows, each cut to what is valid."""
    return torch.stack([
        torch.stack([plain(layer, named, run, x[run, b][valid[run, b]]) for b in range(B)]) for run in range(R)
    ])  # fmt: skip


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_features_are_those_of_a_plain_transformer_over_the_valid_observations(n_layers):
    layer, params = randomised(n_layers)
    x = normal(R, B, K, N_IN)
    expected = plainly(layer, params.named(), x, some_valid())
    torch.testing.assert_close(layer(params, x, some_valid()), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_gradients_are_those_of_a_plain_transformer(n_layers):
    layer, params = randomised(n_layers)
    x = normal(R, B, K, N_IN).requires_grad_()
    named = {name: tensor.clone().requires_grad_() for name, tensor in params.named().items()}
    expected = torch.autograd.grad(plainly(layer, named, x, some_valid()).sin().sum(), [x, *named.values()])
    found = layer(params, x, some_valid()).sin().sum()
    found = torch.autograd.grad(found, [x, *(params[name] for name in named)])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("rubbish", [1e6, torch.inf, torch.nan])
def test_what_is_not_valid_influences_neither_value_nor_gradient(rubbish):
    layer, params = randomised()
    x, valid = normal(R, B, K, N_IN), some_valid()
    other = torch.where(valid.unsqueeze(-1), x, rubbish).requires_grad_()
    params.backward(layer(params, x, valid).square().sum((1, 2)))
    clean = params.grads.clone()
    features = layer(params, other, valid)
    (by_x,) = torch.autograd.grad(features.square().sum(), other, retain_graph=True)
    params.backward(features.square().sum((1, 2)))
    assert torch.equal(features, layer(params, x, valid))
    assert torch.equal(params.grads, clean)
    assert by_x[~valid].eq(0.0).all()
    assert by_x[valid].ne(0.0).all()


def test_positions_before_every_episode_get_no_gradient():
    layer, params = randomised()
    valid = torch.arange(K).expand(R, B, K) >= K - 2
    features = layer(params, normal(R, B, K, N_IN), valid)
    (positions,) = torch.autograd.grad(features.square().sum(), params["past.positions"])
    assert positions[:, 2:].eq(0.0).all()
    assert positions[:, :2].ne(0.0).all()


def test_a_window_that_is_cut_short_equals_one_that_is_not_valid_before():
    layer, params = randomised()
    x = normal(R, B, K, N_IN)
    valid = (torch.arange(K) >= 2).expand(R, B, K)
    short = layer(params, x[:, :, 2:], valid[:, :, 2:])
    torch.testing.assert_close(layer(params, x, valid), short, rtol=0.0, atol=1e-12)


def test_observations_are_told_apart_by_their_age():
    layer, params = randomised()
    x = normal(R, B, K, N_IN)
    swapped = x[:, :, [1, 0, 2, 3, 4, 5]]
    valid = torch.ones(R, B, K, dtype=torch.bool)
    assert (layer(params, x, valid) - layer(params, swapped, valid)).abs().amax(-1).gt(1e-6).all()


def test_first_and_second_derivatives_are_those_of_finite_differences():
    layer = Transformer("past", 1, 2, 1, 1, 2)
    params = ParameterRows(layer.shapes(), 1, dtype=torch.float64)
    params.values.copy_(normal(*params.values.shape, seed=1))
    x = normal(1, 2, 2, 1).requires_grad_()
    valid = torch.tensor([[[False, True], [True, True]]])
    views = tuple(params[name] for name in params.named())

    def features(x, *_):
        return layer(params, x, valid)

    assert torch.autograd.gradcheck(features, (x, *views))
    assert torch.autograd.gradgradcheck(features, (x, *views))


def test_run_alone_equals_run_in_a_batch():
    (layer, together), (_, alone) = build(), build(SEEDS[1:2])
    torch.testing.assert_close(together.values[1:2], alone.values, rtol=0.0, atol=1e-12)
    x, valid = normal(R, B, K, N_IN), some_valid()
    many, one = layer(together, x, valid), layer(alone, x[1:2], valid[1:2])
    torch.testing.assert_close(many[1:2], one, rtol=0.0, atol=1e-12)
    together.backward(many.sin().sum((1, 2)))
    alone.backward(one.sin().sum((1, 2)))
    torch.testing.assert_close(together.grads[1:2], alone.grads, rtol=0.0, atol=1e-12)


def test_gradient_of_a_run_does_not_depend_on_the_other_runs():
    layer, params = randomised()
    params.backward(layer(params, normal(R, B, K, N_IN), some_valid())[1].square().sum((0, 1)))
    assert params.grads[1].ne(0.0).any()
    assert params.grads[[0, 2]].eq(0.0).all()


def test_single_precision_gives_single_precision():
    (layer, single), (_, double) = build(dtype=torch.float32), build()
    x = normal(R, B, K, N_IN)
    features = layer(single, x.float(), some_valid())
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.double(), layer(double, x, some_valid()), rtol=1e-4, atol=1e-5)


def test_initial_weights_are_orthogonal_and_those_of_the_residual_scaled_by_depth():
    _, params = build(n_layers=2)
    named = params.named()
    gains = {"query": 1.0, "merge": 0.5, "feed_forward.0": 2**0.5, "feed_forward.1": 0.5}  # 1 / sqrt(2 * 2 layers)
    weights = [(named[f"past.{i}.{part}.weight"], gain) for i in range(2) for part, gain in gains.items()]
    weights += [(part, 1.0) for i in range(2) for part in named[f"past.{i}.key_value.weight"].chunk(2, -1)]
    weights.append((named["past.embedding.weight"], 1.0))
    for weight, gain in weights:
        gram = weight.mT @ weight if weight.shape[1] >= weight.shape[2] else weight @ weight.mT
        identity = gain**2 * torch.eye(gram.shape[-1], dtype=torch.float64).expand_as(gram)
        torch.testing.assert_close(gram, identity, rtol=1e-12, atol=1e-12)


def test_initial_biases_are_zero_and_normalisations_the_identity():
    named = build()[1].named()
    assert all(tensor.eq(0.0).all() for name, tensor in named.items() if name.endswith("bias"))
    assert all(tensor.eq(1.0).all() for name, tensor in named.items() if name.endswith("norm.weight"))


def test_initial_positions_are_about_one_long():
    layer = Transformer("past", 3, 256, 4, 1, 8)
    params = ParameterRows(layer.shapes(), 2)
    layer.initialise(params, Stream([1, 2], "initialisation"))
    # The squared length is chi-squared of 256 degrees over 256: standard deviation sqrt(2 / 256) = 0.09.
    assert (params.named()["past.positions"].square().sum(-1) - 1.0).abs().max() < 5 * 0.09


def test_number_of_outputs_is_the_width():
    layer, params = build()
    assert layer.n_outputs == WIDTH
    assert layer(params, normal(R, B, K, N_IN), some_valid()).shape == (R, B, WIDTH)


def test_names_and_shapes_of_the_parameters():
    assert Transformer("t", 3, 4, 2, 1, 5).shapes() == {
        "t.embedding.weight": (3, 4),
        "t.embedding.bias": (1, 4),
        "t.positions": (5, 4),
        "t.0.query.weight": (4, 4),
        "t.0.query.bias": (1, 4),
        "t.0.key_value.weight": (4, 8),
        "t.0.key_value.bias": (1, 8),
        "t.0.merge.weight": (4, 4),
        "t.0.merge.bias": (1, 4),
        "t.0.feed_forward.0.weight": (4, 16),
        "t.0.feed_forward.0.bias": (1, 16),
        "t.0.feed_forward.1.weight": (16, 4),
        "t.0.feed_forward.1.bias": (1, 4),
        "t.0.attention_norm.weight": (1, 4),
        "t.0.attention_norm.bias": (1, 4),
        "t.0.feed_forward_norm.weight": (1, 4),
        "t.0.feed_forward_norm.bias": (1, 4),
        "t.norm.weight": (1, 4),
        "t.norm.bias": (1, 4),
    }


@pytest.mark.parametrize(
    ("n_heads", "n_layers", "message"),
    [
        (3, 1, r"multiple of n_heads, got width=8 and n_heads=3"),
        (0, 1, r"n_heads=0"),
        (2, 0, r"n_layers must be at least 1, got 0"),
    ],
)
def test_impossible_sizes_are_refused(n_heads, n_layers, message):
    with pytest.raises(ValueError, match=message):
        Transformer("past", 3, 8, n_heads, n_layers, 4)
