"""The range test: it leaves no bit behind, whatever happens, and reads curves whose answer is known."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from entropic_rl.diagnostics.range_test import range_test, read_range
from entropic_rl.errors import ConfigError

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
BATCHES = list(zip(X.split(8), Y.split(8), strict=True))
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adam with a rate on the device": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, line_search_fn="strong_wolfe"),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


class Counting(nn.BatchNorm1d):
    """With a buffer that is not saved, and one that is replaced rather than written to."""

    def __init__(self, n):
        super().__init__(n)
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.register_buffer("latest", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.latest = x.mean().detach().reshape(1)
        return super().forward(x)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), Counting(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))


def train(module, optimizer, n_steps):
    for i in range(n_steps):
        x, y = BATCHES[i % len(BATCHES)]

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)


def everything(module, optimizer):
    """All that could have changed, as bytes where it is a tensor."""

    def plain(value):
        if isinstance(value, torch.Tensor):
            return (value.dtype, tuple(value.shape), value.detach().numpy().tobytes())
        if isinstance(value, dict):
            return {key: plain(own) for key, own in value.items()}
        return [plain(own) for own in value] if isinstance(value, list | tuple) else value

    return plain(
        {
            "parameters": dict(module.named_parameters()),
            "buffers": dict(module.named_buffers()),
            "gradients": {name: p.grad for name, p in module.named_parameters()},
            "modes": [part.training for part in module.modules()],
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": [str(part) for part in np.random.get_state()],
            "python": str(random.getstate()),
        }
    )


class Stopped(BaseException):
    """Like an interrupt."""


def failing(after):
    calls = iter(range(10**6))

    def loss(outputs, target):
        if next(calls) == after:
            raise Stopped
        return nn.functional.cross_entropy(outputs, target)

    return loss


@every_optimizer
@pytest.mark.parametrize("n_before", [0, 7])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_bit_for_bit_as_it_was(make, n_before, fails):
    module = network()
    optimizer = make(module.parameters())
    train(module, optimizer, n_before)
    before, buffers = everything(module, optimizer), dict(module.named_buffers())
    if fails:
        with pytest.raises(Stopped):
            range_test(module, failing(9), optimizer, BATCHES)
    else:
        np.random.rand(3)
        random.random()
        before = everything(module, optimizer)
        found = range_test(module, nn.functional.cross_entropy, optimizer, BATCHES)
        assert len(found.rates) > 20
    assert everything(module, optimizer) == before
    assert all(buffers[name] is tensor for name, tensor in module.named_buffers())


@every_optimizer
def test_training_goes_on_as_if_there_had_been_none(make):
    ends = []
    for tests in (False, True):
        module = network()
        optimizer = make(module.parameters())
        train(module, optimizer, 5)
        if tests:
            range_test(module, nn.functional.cross_entropy, optimizer, BATCHES, n_steps=30)
        train(module, optimizer, 5)
        ends.append(everything(module, optimizer))
    assert ends[0] == ends[1]


def test_loaders_with_generators_of_their_own_and_schedulers_notice_nothing():
    loader = DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=torch.Generator().manual_seed(3))
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    state, plain = loader.generator.get_state(), copy.copy(vars(optimizer))
    range_test(module, nn.functional.cross_entropy, optimizer, loader)
    assert torch.equal(loader.generator.get_state(), state)
    assert vars(optimizer).keys() == plain.keys()
    assert scheduler.get_last_lr() == [0.1] == [group["lr"] for group in optimizer.param_groups]


def test_modes_are_kept_even_if_the_loss_changes_them():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def loss(outputs, target):
        module.eval()
        return nn.functional.cross_entropy(outputs, target)

    range_test(module, loss, optimizer, BATCHES)
    assert all(part.training for part in module.modules())


def test_groups_keep_the_ratio_of_their_rates():
    module, seen = network(), []
    first, last = module[0].parameters(), module[4].parameters()
    optimizer = torch.optim.SGD([{"params": first, "lr": 0.1}, {"params": last, "lr": 0.3}])

    def loss(outputs, target):
        seen.append([group["lr"] for group in optimizer.param_groups])
        return nn.functional.cross_entropy(outputs, target)

    found = range_test(module, loss, optimizer, BATCHES, start=1e-4, end=1e-2, n_steps=12)
    np.testing.assert_allclose(seen, np.outer(np.geomspace(1e-4, 1e-2, 12), [1.0, 3.0]))
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1e-2, 12))


def test_parabola_is_left_where_the_step_is_two_over_the_curvature():
    # loss = 5 w^2: curvature 10, so that a step brings w nearer exactly up to a rate of .2
    module = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    batches = [(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))]
    found = range_test(
        module, lambda out, y: 5.0 * (out - y).square().mean(), optimizer, batches, start=1e-4, end=1.0,
        n_steps=200, stop_at=float("inf"),
    )  # fmt: skip
    assert 0.1 < found.lowest < 0.25  # at .1 the weight is 0, beyond .2 it grows
    rises = found.rates[:-1][np.diff(found.losses) > 0.0]
    assert rises.min() == pytest.approx(0.2, rel=0.06)
    assert found.steepest < found.lowest


def test_rates_of_a_curve_with_a_known_bend_are_read_off():
    rates = np.geomspace(1e-5, 10, 200)
    losses = 2.3 - 2.0 / (1.0 + np.exp(-4.0 * (np.log10(rates) + 2.0)))  # falls fastest at .01
    losses[rates > 0.5] = 40.0
    found = read_range(rates, losses + 0.01 * np.random.default_rng(0).normal(size=200))
    assert found.steepest == pytest.approx(0.01, rel=0.35)
    assert 0.1 < found.lowest < 0.5 < found.diverged < 0.6
    assert str(found).startswith("the loss falls fastest at a learning rate of 0.0")


def test_curve_that_does_not_fall_suggests_nothing():
    found = read_range(np.geomspace(1e-5, 1, 50), np.linspace(1.0, 1.2, 50))
    assert found.steepest is found.lowest is found.diverged is None
    assert "falls at no learning rate from 1e-05 to 1" in str(found)


def test_losses_after_one_that_is_not_finite_do_not_count():
    losses = [3.0, 2.0, 1.0, 0.5, np.nan, 0.1]
    found = read_range(np.geomspace(0.1, 10, 6), losses)
    assert len(found.losses) == 4
    assert found.diverged == pytest.approx(0.1 * 100 ** (4 / 5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 0.0}, "expected 0 < start < end"),
        ({"start": 1.0, "end": 0.1}, "expected 0 < start < end"),
        ({"n_steps": 3}, "n_steps: expected at least 10, got 3"),
        ({"stop_at": 1.0}, "stop_at: expected more than 1"),
        ({"batches": []}, "batches: expected some"),
        ({"batches": iter(BATCHES)}, "an iterator can be gone through once"),
        ({"batches": [X]}, "expected pairs"),
        ({"loss": lambda out, y: out.sum(1)}, r"expected one number that can be differentiated, got \(8,\)"),
        ({"loss": lambda out, y: 1.0}, "got float"),
        ({"loss": lambda out, y: out.sum() * float("nan")}, "at least 3 finite losses, got 0"),
        ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)}, "got SGD without any of them"),
        ({"optimizer": 0.0}, "learning rate > 0"),
    ],
)
def test_what_cannot_be_tested_is_refused_and_leaves_no_trace(options, words):
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=options.pop("optimizer", 0.1)) if not isinstance(
        options.get("optimizer"), torch.optim.Optimizer) else options.pop("optimizer")  # fmt: skip
    before = everything(module, optimizer)
    given = {"loss": nn.functional.cross_entropy, "batches": BATCHES, **options}
    with pytest.raises(ConfigError, match=words):
        range_test(module, given.pop("loss"), optimizer, given.pop("batches"), **given)
    assert everything(module, optimizer) == before
