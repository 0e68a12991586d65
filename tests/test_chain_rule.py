"""One weight's derivatives, factor by factor: by hand, by finite differences, by autograd, and planted mistakes."""

import itertools
import math
import re
from io import StringIO
from pathlib import Path

import pytest
import torch
from torch import nn

from entropic_rl.benchmarks.chain_rule import ACTIVATIONS as MEASURED
from entropic_rl.benchmarks.chain_rule import worked_example
from entropic_rl.benchmarks.cli import main
from entropic_rl.benchmarks.notebooks import executed, printed, read
from entropic_rl.diagnostics.chain_rule import trace_weight
from entropic_rl.diagnostics.differences import central_difference, relative_error
from entropic_rl.errors import ConfigError
from entropic_rl.plots.chain_rule import plot_chain_rule

F64 = torch.float64
ACTIVATIONS = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": lambda: nn.ReLU(inplace=True), "leaky": nn.LeakyReLU, "elu": nn.ELU,
    "prelu": nn.PReLU, "gelu": nn.GELU, "gelu-tanh": lambda: nn.GELU("tanh"), "silu": nn.SiLU, "softplus": nn.Softplus,
    "mish": nn.Mish, "identity": nn.Identity, "layer-norm": lambda: nn.LayerNorm(4),
}  # fmt: skip


def network(activation=nn.Sigmoid, widths=(3, 4, 4, 3), seed=0, bias=True):
    layers = []
    for n, m in itertools.pairwise(widths):
        layers += [nn.Linear(n, m, bias=bias, dtype=F64), activation()]
    net = nn.Sequential(*layers[:-1]).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, 1.0, generator=generator)
                if bias:
                    layer.bias.normal_(0.0, 0.5, generator=generator)
    return net


def inputs(n=3, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(100 + seed), dtype=F64)


def close(a, b, tolerance):
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-3)


# By hand


def textbook():
    """z1 = (1, 2), h1 = z1, y = (1 - 2, 2) = (-1, 2), by x = (1, 1)."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.5, 0.5], [1.0, 1.0]]))
        net[2].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))
    return net


def test_factors_are_those_worked_out_by_hand():
    trace = trace_weight(textbook(), (1.0, 1.0), 0, layer=0, row=1, column=0, ent_coef=0.5)
    q = 1.0 / (1.0 + math.exp(3.0))  # p_0, of logits -1 and 2
    by_logit, slope = (q - 1.0, 1.0 - q), q * (1.0 - q)
    values = {factor.symbol: factor.value for factor in (*trace.task.factors, *trace.entropy.factors)}
    assert values["dL/dy"].tolist() == pytest.approx(by_logit, rel=1e-13)
    assert values["dy/dh1"].tolist() == [[1.0, -1.0], [0.0, 1.0]]
    assert values["dh1/dz1"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert values["dz1/dw"].tolist() == [0.0, 1.0]
    assert values["dH/dp"].tolist() == pytest.approx((-math.log(q) - 1.0, -math.log(1.0 - q) - 1.0), rel=1e-12)
    assert values["dp/dy"].flatten().tolist() == pytest.approx((slope, -slope, -slope, slope), rel=1e-12)
    assert trace.task.product == pytest.approx(-by_logit[0] + by_logit[1], rel=1e-13)
    # w moves y by (-1, 1), so the gap y_1 - y_0 by 2, and dH/dgap = -gap q (1 - q)
    assert trace.entropy.product == pytest.approx(-3.0 * slope * 2.0, rel=1e-12)


def test_weight_of_the_last_layer_has_the_shortest_chain():
    trace = trace_weight(textbook(), (1.0, 1.0), 0, layer=2, row=1, column=0)
    assert [factor.symbol for factor in trace.task.factors] == ["dL/dy", "dy/dw"]
    assert [factor.symbol for factor in trace.entropy.factors] == ["dH/dp", "dp/dy", "dy/dw"]
    assert trace.task.factors[1].value.tolist() == [0.0, 1.0]


def test_deep_networks_have_a_factor_for_every_step():
    trace = trace_weight(network(), inputs(), 0, layer=0, row=0, column=0)
    assert [f.symbol for f in trace.task.factors] == ["dL/dy", "dy/dh2", "dh2/dz2", "dz2/dh1", "dh1/dz1", "dz1/dw"]


# By finite differences and autograd


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_every_factor_agrees_with_differences_and_products_with_autograd(name, seed):
    net, x = network(ACTIVATIONS[name], seed=seed), inputs(seed=seed)
    for layer, row, column in ((0, seed % 4, seed % 3), (2, 3, seed % 4), (4, seed % 3, 1)):
        trace = trace_weight(net, x, seed % 3, layer=layer, row=row, column=column, ent_coef=0.3)
        assert trace.worst.relative_error <= 1e-6, trace.worst
        for chain in (trace.task, trace.entropy):
            assert chain.relative_error <= 1e-6
            assert close(chain.product, chain.autograd, 1e-12)
        assert close(trace.total, trace.total_autograd, 1e-12)


@pytest.mark.parametrize("widths", [(1, 2), (2, 5), (5, 1, 4), (2, 8, 8, 8, 8, 2), (3, 4, 1)])
def test_networks_of_any_width_and_depth_agree(widths):
    net = network(nn.Tanh, widths, bias=False)
    trace = trace_weight(net, inputs(widths[0]), 0, layer=0, row=widths[1] - 1, column=widths[0] - 1, ent_coef=1.0)
    assert trace.worst.relative_error <= 1e-6
    assert close(trace.total, trace.total_autograd, 1e-12)


def test_layers_without_an_activation_between_them_multiply():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    trace = trace_weight(net, (1.0, -1.0), 1, layer=0, row=2, column=1, ent_coef=0.2)
    assert [f.symbol for f in trace.task.factors] == ["dL/dy", "dy/dz1", "dz1/dw"]
    assert trace.worst.relative_error <= 1e-6


def test_entropy_by_logits_is_the_product_of_its_two_factors():
    trace = trace_weight(network(), inputs(), 0, layer=2, row=0, column=0)
    by_p, by_y = (factor.value for factor in trace.entropy.factors[:2])
    torch.testing.assert_close(by_p @ by_y, trace.entropy_by_logits.value, rtol=1e-12, atol=1e-14)


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.tanh()

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return 1.01 * grad * (1.0 - z.tanh() ** 2)


class WrongTanh(nn.Module):
    def forward(self, z):
        return _Wrong.apply(z)


def test_planted_wrong_slope_is_named_alone():
    net = network()
    net[3] = WrongTanh()
    trace = trace_weight(net, inputs(), 0, layer=0, row=0, column=0)
    assert trace.worst.symbol == "dh2/dz2"
    assert trace.worst.relative_error == pytest.approx(0.01, rel=0.02)
    assert [f.symbol for f in trace.task.factors if f.relative_error > 1e-6] == ["dh2/dz2"]
    assert "slope of WrongTanh" in str(trace)
    assert "9.9e-03" in str(trace)


def test_kink_is_shown_as_a_factor_that_fails():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    trace = trace_weight(net, (0.0,), 0, layer=0, row=0, column=0)
    assert trace.worst.symbol == "dh1/dz1"


# Differences


@pytest.mark.parametrize(("speed", "extrapolates"), [(1.0, False), (30.0, True)])
def test_differences_are_extrapolated_only_where_truncation_shows(speed, extrapolates):
    value, used = central_difference(lambda t: torch.tensor(math.exp(speed * t), dtype=F64), 1e-4)
    assert used is extrapolates
    assert value.item() == pytest.approx(speed, rel=1e-9 if extrapolates else 1e-8)
    assert used is (speed**2 * 1e-8 / 6 > 1e-7)


def test_errors_are_relative_to_the_larger_and_never_to_nothing():
    one, two = torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([2.0, 0.0], dtype=F64)
    assert relative_error(one, two) == 0.5
    assert relative_error(one * 0, one * 0) == 0.0
    assert relative_error(one * 0, one * 1e-12, size=1.0) == pytest.approx(1e-7)


def saturated():
    """p = (1 - 1e-14, 1e-14, 1e-22): the loss and most of its derivatives are below the rounding of the logits."""
    net = nn.Sequential(nn.Linear(1, 3, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[23.0], [-9.0], [-27.0]]))
    return net


@pytest.mark.parametrize("target", [0, 1, 2])
def test_saturated_networks_are_not_mistaken_for_wrong_ones(target):
    trace = trace_weight(saturated(), (1.0,), target, layer=0, row=1, column=0)
    assert trace.worst.relative_error <= 1e-6, trace.worst


# What is printed, and what is left alone


def test_table_shows_both_chains_and_the_total():
    text = str(trace_weight(textbook(), (1.0, 1.0), 0, layer=0, row=1, column=0, ent_coef=0.5))
    for line in (
        "dL/dy ",
        "dH/dp ",
        "dp/dy ",
        "dH/dw ",
        "diag(1, 1)",
        "products beside autograd: relative error < 1e-12",
    ):
        assert line in text
    assert "1.905 - 0.5 x -0.2711 = 2.041; autograd of the entropic loss: 2.041" in text
    assert max(map(len, text.splitlines())) < 140


def test_network_and_generators_are_left_as_they_were():
    net = network(nn.Sigmoid).float()
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    trace_weight(net, inputs(), 0, layer=0, row=0, column=0)
    assert all(torch.equal(before[k], v) and v.dtype == torch.float32 for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_networks_are_traced_and_where_gradients_are_switched_off():
    net = network().requires_grad_(False)
    with torch.no_grad():
        trace = trace_weight(net, inputs(), 0, layer=0, row=0, column=0)
    assert close(trace.task.product, trace.task.autograd, 1e-12)
    assert not any(p.requires_grad for p in net.parameters())


# Bad input


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": nn.Linear(3, 3)}, "expected an nn.Sequential of Linear layers"),
        ({"network": nn.Sequential()}, "is not Linear"),
        ({"network": nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1))}, "softmax is part of the loss"),
        ({"network": nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Tanh(), nn.Linear(3, 3))}, "Tanh after another"),
        ({"network": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))}, "BatchNorm1d, which fails"),
        ({"network": nn.Sequential(nn.Linear(3, 64), nn.Dropout(), nn.Linear(64, 3))}, r"network\.eval\(\)"),
        ({"network": nn.Sequential(nn.Linear(3, 3)).half()}, "expected float32 or float64, got float16 in '0.weight'"),
        ({"x": (1.0, 2.0)}, "expected one row of 3 finite numbers"),
        ({"x": (1.0, 2.0, math.nan)}, "expected one row of 3 finite numbers"),
        ({"x": "abc"}, "expected one row of 3 finite numbers, got 'abc'"),
        ({"target": 0.5}, "expected a class from 0 to 2, got 0.5"),
        ({"target": 3}, "expected a class from 0 to 2, got 3"),
        ({"layer": 1}, "one of 0, 2, 4, got 1, which is Sigmoid"),
        ({"layer": 9}, "which is nothing"),
        ({"row": 4}, r"got \[4, 0\]"),
        ({"step": 0.0}, "expected 0 < step"),
        ({"x": (1e300, 1e300, 1e300), "network": network(nn.Identity)}, "expected"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, words):
    arguments = {"network": network(), "x": inputs(), "target": 0, "layer": 0, "row": 0, "column": 0} | change
    net, x, target = (arguments.pop(name) for name in ("network", "x", "target"))
    with pytest.raises(ConfigError, match=words) as error:
        trace_weight(net, x, target, **arguments)
    assert "\n" not in str(error.value)


# The picture


def texts(svg):
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


def test_picture_holds_the_factors_and_the_products():
    trace, file = trace_weight(textbook(), (1.0, 1.0), 0, layer=0, row=1, column=0), StringIO()
    plot_chain_rule(file, trace)
    said = texts(file.getvalue())
    assert {"dz1/dw = 1", "dh1/dz1 = 1", "dy/dh1 = -1", "dy/dh1 = 1", "target", "hidden h1"} <= set(said)
    assert any(text.startswith("dL/dw  =  dL/dy") and text.endswith("=  1.905") for text in said)
    assert any(text.startswith("dH/dw  =  dH/dp") and text.endswith("=  -0.2711") for text in said)


@pytest.mark.parametrize(("layer", "activation"), [(4, nn.Tanh), (2, nn.ReLU), (0, nn.Identity)])
def test_every_layer_of_a_deep_network_can_be_drawn(layer, activation):
    file = StringIO()
    plot_chain_rule(file, trace_weight(network(activation), inputs(), 0, layer=layer, row=0, column=0), title="here")
    assert {"hidden h1", "hidden h2", "here"} <= set(texts(file.getvalue()))


def test_layers_without_an_activation_are_drawn():
    file, net = StringIO(), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    plot_chain_rule(file, trace_weight(net, (1.0, -1.0), 1, layer=0, row=2, column=1))
    assert "hidden z1" in texts(file.getvalue())


def test_networks_too_wide_to_be_read_are_not_drawn():
    with pytest.raises(ConfigError, match="at most 5 units in a layer, got 6"):
        plot_chain_rule(StringIO(), trace_weight(network(widths=(3, 6, 2)), inputs(), 0, layer=0, row=0, column=0))


# The notebook and the measurement

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "chain_rule.ipynb"


def test_notebook_prints_what_it_has_stored():
    notebook = read(NOTEBOOK)
    fresh = executed(notebook)
    assert printed(fresh) == printed(notebook)
    assert fresh == notebook  # no counts, no times, no metadata of cells
    assert "dL/dw" in "".join(printed(notebook))


def test_notebook_is_small_and_names_no_place_of_a_machine():
    text = NOTEBOOK.read_text()
    assert len(text) < 20_000
    assert not re.search(r"/(home|tmp|work|usr|root)/", text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links == ["../images/chain_rule.svg"]
    assert (NOTEBOOK.parent / links[0]).exists()


def test_notebook_and_picture_show_the_same_weight():
    trace = worked_example()
    table = printed(read(NOTEBOOK))[-2]
    assert table.strip() == str(trace)


def test_files_that_are_no_notebooks_are_refused(tmp_path):
    for text in ("{", "[]", '{"nbformat": 3}'):
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(ConfigError, match="--notebook: expected"):
            read(tmp_path / "a.ipynb")
    with pytest.raises(ConfigError, match="expected a notebook"):
        read(tmp_path / "none.ipynb")


def test_measurement_prints_a_row_per_activation_and_leaves_the_picture(tmp_path, capsys):
    assert main(["chain-rule", "--networks", "1", "--picture", str(tmp_path / "a.svg")]) == 0
    _, rule, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(MEASURED)
    assert {row.count("|") for row in rows} == {rule.count("|")}
    for row in rows:
        factor, product, total = (float(cell) for cell in row.split("|")[3:6])
        assert factor <= 1e-6
        assert max(product, total) <= 1e-12
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert main(["chain-rule", "--networks", "0"]) == 2
