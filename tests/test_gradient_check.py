"""Gradients of modules: right ones pass, planted wrong ones are named, and nothing is left changed."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from entropic_rl.diagnostics.gradient_check import gradient_check
from entropic_rl.errors import ConfigError
from entropic_rl.losses import EntropicCrossEntropy


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classifier(activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, 6), activation(), nn.Linear(6, 4))


def entropic(y):
    return EntropicCrossEntropy(ent_coef=0.3)(y, torch.arange(len(y)) % 4)


class Planted(torch.autograd.Function):
    """A linear layer whose gradient is off by a hundredth in one place."""

    @staticmethod
    def forward(ctx, x, weight, bias, wrong):
        ctx.save_for_backward(x, weight)
        ctx.wrong = wrong
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        by = {"input": grad @ weight, "weight": grad.T @ x, "bias": grad.sum(0)}
        by[ctx.wrong] = 1.01 * by[ctx.wrong]
        return by["input"], by["weight"], by["bias"], None


class WrongLinear(nn.Linear):
    wrong = "weight"

    def forward(self, x):
        return Planted.apply(x, self.weight, self.bias, self.wrong)


class Last(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)[0][:, -1]


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.PReLU])
def test_right_gradients_pass(activation):
    report = gradient_check(classifier(activation), entropic, rows(32, 3))
    assert report.passed, report
    assert report.failures == ()
    assert len(report.worst) == len(list(classifier(activation).parameters()))


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)),
         rows(6, 1, 6, 6)),
        (nn.Sequential(Last(nn.LSTM(3, 5, batch_first=True)), nn.Linear(5, 4)), rows(6, 4, 3)),
        (nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(10, 4)), torch.arange(12).reshape(6, 2) % 9),
        (nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True), nn.Flatten(), nn.Linear(18, 4)),
         rows(5, 3, 6)),
    ],
    ids=["convolution", "recurrence", "embedding", "attention"],
)  # fmt: skip
def test_layers_of_every_kind_pass(module, x):
    assert gradient_check(module, entropic, x).passed


@pytest.mark.parametrize("wrong", ["weight", "bias"])
def test_planted_mistake_is_named_with_both_values(wrong):
    module = classifier()
    module[2] = WrongLinear(8, 6)
    module[2].wrong = wrong
    report = gradient_check(module, entropic, rows(32, 3))
    assert [check.name for check in report.failures] == [f"2.{wrong}"]
    (failure,) = report.failures
    assert failure.got == pytest.approx(1.01 * failure.expected, rel=1e-5)
    assert failure.relative_error == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert f"wrong: 2.{wrong}" in str(report)
    assert str(report).count("WRONG") == 1


def test_mistake_on_the_way_back_shows_in_all_layers_before_it():
    module = classifier()
    module[2] = WrongLinear(8, 6)
    module[2].wrong = "input"
    report = gradient_check(module, entropic, rows(32, 3))
    assert [check.name for check in report.failures] == ["0.weight", "0.bias"]


def test_single_wrong_entry_is_found_where_the_gradient_is_largest():
    class Off(nn.Linear):
        def forward(self, x):
            weight = self.weight
            largest = torch.zeros_like(weight)
            largest[0, 0] = 1e-3
            return F.linear(x, weight) + (largest * (weight - weight.detach())).sum()

    with torch.no_grad():
        module = Off(2, 1, bias=False)
        module.weight.copy_(torch.tensor([[1.0, 1.0]]))
    report = gradient_check(module, lambda y: y.sum(), torch.tensor([[5.0, 1.0]]))
    assert report.failures[0].name == "weight"


def test_gradient_that_is_nan_is_wrong():
    class Nan(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (self.weight.sum() - self.weight.sum().detach()).abs().sqrt()

    report = gradient_check(Nan(2, 1), lambda y: y.sum(), rows(3, 2))
    assert [check.name for check in report.failures] == ["weight"]


def test_frozen_parameters_are_left_out():
    module = classifier()
    module[0].requires_grad_(False)
    assert [check.name.split(".")[0] for check in gradient_check(module, entropic, rows(8, 3)).worst] == list("2244")


def test_losses_that_are_modules_are_taken_to_float64():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert gradient_check(classifier(), lambda y: loss.double()(y, torch.arange(8) % 4), rows(8, 3)).passed
    assert gradient_check(classifier(), EntropyOf(), rows(8, 3)).passed


class EntropyOf(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, y):
        return self.scale * (y.softmax(-1) * y.log_softmax(-1)).sum(-1).mean()


# Nothing changes


def test_everything_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.0), nn.Linear(4, 4))
    x = rows(8, 3)
    entropic(module(x)).backward()
    module[1].eval()
    module.train()
    module[3].eval()
    state = {name: (t.clone(), t.data_ptr(), t.dtype) for name, t in module.state_dict().items()}
    grads = {name: (p.grad, p.grad.clone()) for name, p in module.named_parameters()}
    modes, kept = [m.training for m in module.modules()], x.clone()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    report = gradient_check(module, entropic, x)
    assert report.passed
    for name, t in module.state_dict().items():
        value, pointer, dtype = state[name]
        assert torch.equal(t, value), name
        assert (t.data_ptr(), t.dtype) == (pointer, dtype)
    for name, p in module.named_parameters():
        assert p.grad is grads[name][0]
        assert torch.equal(p.grad, grads[name][1])
    assert modes == [m.training for m in module.modules()]
    assert torch.equal(x, kept)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (np.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


def test_generators_are_left_as_they_were_after_an_error():
    module = nn.Sequential(nn.Linear(3, 64), nn.Dropout())
    state = torch.get_rng_state()
    with pytest.raises(ConfigError):
        gradient_check(module, lambda y: y.mean(), rows(4, 3))
    assert torch.equal(state, torch.get_rng_state())


def test_module_that_works_in_place_on_its_input_is_given_copies():
    x = rows(8, 3)
    kept = x.clone()
    assert gradient_check(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 4)), entropic, x).passed
    assert torch.equal(x, kept)


def test_same_seed_gives_the_same_report():
    first, again = (gradient_check(classifier(), entropic, rows(8, 3), seed=5) for _ in range(2))
    assert first == again


# Bad input


class Pair(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


class InPlace(nn.Linear):
    def forward(self, x):
        self.weight.mul_(2.0)
        return super().forward(x)


class Spare(nn.Linear):
    def __init__(self):
        super().__init__(3, 4)
        self.spare = nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("module", "loss", "words"),
    [
        (nn.ReLU(), torch.sum, "expected parameters to check, got none in ReLU"),
        (nn.Linear(3, 4).requires_grad_(False), torch.sum, "got only frozen ones"),
        (Spare(), torch.sum, "expected to depend on every trainable parameter, got none of 'spare' in it"),
        (nn.Linear(3, 4), lambda y: y.detach().sum(), "got none of 'weight', 'bias' in it"),
        (nn.Linear(3, 4), lambda y: y, r"expected one real number as a tensor, got shape \(5, 4\)"),
        (nn.Linear(3, 4), lambda y: y.sum().item(), "expected one real number as a tensor, got float"),
        (nn.Linear(3, 4), lambda y: y.sum() / 0, "expected a finite number, got"),
        (nn.Linear(3, 4), lambda y: (y - 1e9).sqrt().sum(), "expected a finite number, got nan"),
        (nn.Linear(3, 4).half(), torch.sum, "expected float32 or float64, got float16 in 'weight'"),
        (nn.Linear(3, 4).bfloat16(), torch.sum, "got bfloat16 in 'weight'"),
        (nn.Linear(3, 4, dtype=torch.complex64), torch.sum, "got complex64"),
        (nn.LazyLinear(4), torch.sum, "call it once first"),
        (nn.Sequential(nn.Linear(3, 64), nn.Dropout()), torch.sum, r"dropout by module\.eval\(\)"),
        (Pair(3, 4), torch.sum, "expected one tensor as its output, got tuple"),
        (InPlace(3, 4), torch.sum, "in-place operation"),
        (nn.Linear(2, 4), torch.sum, "mat1 and mat2"),
        (nn.Linear(3, 4), lambda y: (y @ torch.ones(4)).sum(), r"such as targets, with \.double\(\)"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_bad_input_is_one_clear_sentence(module, loss, words):
    with pytest.raises(ConfigError, match=words) as error:
        gradient_check(module, loss, rows(5, 3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"n_directions": 0}, {"n_entries": -1}, {"step": 0.0}, {"tolerance": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="the defaults are"):
        gradient_check(nn.Linear(3, 4), torch.sum, rows(5, 3), **options)


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [(torch.sum, {}, r"expected a torch\.nn\.Module, got builtin"), (nn.Linear(3, 4), {"seed": -1}, "seed: expected")],
)
def test_what_is_no_module_or_seed_is_refused(module, options, words):
    with pytest.raises(ConfigError, match=words):
        gradient_check(module, torch.sum, rows(5, 3), **options)


def test_check_works_where_gradients_are_switched_off():
    with torch.no_grad():
        assert gradient_check(classifier(), entropic, rows(8, 3)).passed
        assert not torch.is_grad_enabled()


def test_half_precision_inputs_are_refused():
    with pytest.raises(ConfigError, match="inputs: expected float32 or float64, got float16"):
        gradient_check(nn.Linear(3, 4), torch.sum, rows(5, 3).half())
