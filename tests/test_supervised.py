"""Fitting R networks at once: against torch's own layers and optimizers, and each run against itself alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from entropic_rl.errors import ConfigError
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table, n_minibatches
from entropic_rl.supervised.modules import Modules
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification, Regression

N, D, C = 48, 3, 4
X = torch.randn(N, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X[:, 0] > 0).long() + 2 * (X[:, 1] > 0.3).long()
DOUBLE = {"dtype": torch.float64}


def fitted(seeds=(5,), ent_coefs=None, *, rows=None, held_out=None, table=None, task=None, network=None, **settings):
    config = FitConfig(**{"net_arch": (8,), "n_epochs": 4, "batch_size": 16, "dtype": "float64", **settings})
    if network is None:
        network = Perceptrons.of(config, D, C, seeds)
    fitting = Fitting(network, task or Classification(config.label_smoothing), config, seeds, ent_coefs)
    every = torch.arange(N).expand(len(seeds), N)
    fitting.run(table or Table(X, Y), every if rows is None else rows, held_out)
    return fitting


def torch_twin(network, run=0):
    """The run's perceptron of one hidden layer in torch's own layers."""
    twin = nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, C)).double()
    state = network.state_dict()
    with torch.no_grad():
        for i, layer in ((0, twin[0]), (1, twin[2])):
            layer.weight.copy_(state[f"{i}.weight"][run].T)
            layer.bias.copy_(state[f"{i}.bias"][run, 0])
    return twin


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_is_that_of_torch(optimizer):
    begin = Perceptrons((D, 8, C), [5], **DOUBLE)
    twin = torch_twin(begin)
    fitting = fitted(
        batch_size=None, n_epochs=5, optimizer=optimizer, learning_rate=0.01, l2=0.1, l1=0.02, ent_coef=0.3
    )
    weights = [twin[0].weight, twin[2].weight]
    own = (
        torch.optim.Adam(twin.parameters(), lr=0.01)
        if optimizer == "adam"
        else torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9)
    )
    for _ in range(5):
        logits = twin(X)
        log_p = logits.log_softmax(-1)
        loss = F.cross_entropy(logits, Y) + 0.3 * (log_p.exp() * log_p).sum(-1).mean()
        loss = loss + sum(0.05 * w.square().sum() + 0.02 * w.abs().sum() for w in weights)
        own.zero_grad()
        loss.backward()
        own.step()
    torch.testing.assert_close(fitting.network(X.expand(1, N, D))[0], twin(X), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dropout": 0.4},
        {"batch_norm": True},
        {"layer_norm": True},
        {"activation": "prelu"},
        {"optimizer": "sgd"},
        {"early_stopping": True, "n_epochs": 30, "n_epochs_no_change": 2, "tol": 0.02, "learning_rate": 0.05},
    ],
    ids=str,
)
def test_run_in_a_batch_is_the_run_alone(settings):
    seeds, coefs = [3, 4, 3], [0.0, 0.5, "linear:1:0"]
    rows = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(s))[:40] for s in (0, 1, 2)])
    held_out = torch.stack([torch.arange(8 * i, 8 * i + 8) for i in range(3)])
    early = settings.get("early_stopping")
    together = fitted(seeds, coefs, rows=rows, held_out=held_out if early else None, **settings)
    if early:
        assert len(set(together.n_epochs.tolist())) > 1  # else stopping is not tried
    for run in range(3):
        part = slice(run, run + 1)
        alone = fitted(
            seeds[part], coefs[part], rows=rows[part], held_out=held_out[part] if early else None, **settings
        )
        torch.testing.assert_close(together.network.values[part], alone.network.values, rtol=0.0, atol=1e-9)
        assert alone.n_epochs[0] == together.n_epochs[run]
        torch.testing.assert_close(together.ent_coef[part], alone.ent_coef, rtol=0.0, atol=1e-12)


SPREAD = [
    {"learning_rate": [0.001, 0.1, "linear:0.1:0"]},
    {"optimizer": "sgd", "momentum": [0.0, 0.9, 0.5]},
    {"l1": [0.0, 0.01, 0.1], "l2": [0.3, 0.0, 0.1]},
    {"optimizer": "rmsprop", "learning_rate": [0.001, 0.01, 0.1]},
    {"optimizer": "adamw", "learning_rate": [0.001, 0.01, 0.1], "weight_decay": 0.5},
    {"optimizer": "lbfgs", "learning_rate": [0.1, 0.5, 1.0], "batch_size": None},
]


def settings_of(run, given):
    own = {name: value[run] if isinstance(value, list) else value for name, value in given.items()}
    return FitConfig(**{"net_arch": (8,), "n_epochs": 4, "batch_size": 16, "dtype": "float64", **own})


@pytest.mark.parametrize("given", SPREAD, ids=str)
def test_runs_of_other_settings_in_a_batch_are_the_runs_alone(given):
    seeds, configs = [3, 4, 3], [settings_of(run, given) for run in range(3)]
    every = torch.arange(N).expand(3, N)
    network = Perceptrons((D, 8, C), seeds, **DOUBLE)
    Fitting(network, Classification(), configs, seeds).run(Table(X, Y), every)
    assert len({tuple(row.tolist()) for row in network.values}) == 3
    for run, config in enumerate(configs):
        alone = Perceptrons((D, 8, C), seeds[run : run + 1], **DOUBLE)
        Fitting(alone, Classification(), config, seeds[run : run + 1]).run(Table(X, Y), every[:1])
        torch.testing.assert_close(network.values[run : run + 1], alone.values, rtol=0.0, atol=1e-9)


def test_settings_that_a_batch_has_in_common_may_not_differ():
    configs = [FitConfig(batch_size=16), FitConfig(batch_size=32)]
    with pytest.raises(ConfigError, match="batch_size: expected one value for all runs of a batch, got 16 and 32"):
        Fitting(Perceptrons((D, C), [0, 1]), Classification(), configs, [0, 1])
    with pytest.raises(ConfigError, match="at least one run, got none"):
        Fitting(Perceptrons((D, C), [0]), Classification(), [], [0])


def test_run_that_diverges_is_left_alone_and_changes_no_other():
    seeds, given = [3, 4, 3], {"optimizer": "sgd", "learning_rate": [0.01, 1e30, 0.1]}
    configs = [settings_of(run, given) for run in range(3)]
    every = torch.arange(N).expand(3, N)
    network = Perceptrons((D, 8, C), seeds, **DOUBLE)
    fitting = Fitting(network, Classification(), configs, seeds, may_diverge=True)
    fitting.run(Table(X, Y), every)
    assert fitting.diverged.tolist() == [False, True, False]
    assert fitting.n_epochs.tolist() == [4, fitting.n_epochs[1], 4]
    assert fitting.n_epochs[1] < 4
    for run in (0, 2):
        alone = fitted(seeds[run : run + 1], **{**given, "learning_rate": given["learning_rate"][run]})
        torch.testing.assert_close(network.values[run : run + 1], alone.network.values, rtol=0.0, atol=1e-9)
    alone = Perceptrons((D, 8, C), [4], **DOUBLE)
    stopped = Fitting(alone, Classification(), configs[1], [4], may_diverge=True)
    stopped.run(Table(X, Y), every[:1])
    assert stopped.n_epochs.tolist() == [fitting.n_epochs[1]]


@pytest.mark.parametrize(("rows", "size", "steps"), [(48, 16, 3), (48, 48, 1), (48, None, 1), (49, 16, 3), (50, 16, 4)])
def test_minibatches_are_counted_as_they_are_made(rows, size, steps):
    assert n_minibatches(rows, size) == steps


def test_layer_normalisation_and_a_learned_slope_are_those_of_torch():
    network = Perceptrons((D, 8, C), [1, 2], layer_norm=True, activation="prelu", **DOUBLE)
    generator = torch.Generator().manual_seed(0)
    network.values.add_(torch.randn(network.values.shape, generator=generator, **DOUBLE), alpha=0.1)
    twin = torch_twin(network, run=1)
    norm, slope = nn.LayerNorm(8).double(), nn.PReLU().double()
    state = network.state_dict()
    with torch.no_grad():
        norm.weight.copy_(state["0.scale"][1, 0])
        norm.bias.copy_(state["0.shift"][1, 0])
        slope.weight.copy_(state["0.slope"][1, 0])
    model = nn.Sequential(twin[0], norm, slope, twin[2])
    outputs = network(X.expand(2, -1, -1), training=True)
    torch.testing.assert_close(outputs[1], model(X))
    network.backward(F.cross_entropy(outputs.flatten(0, 1), Y.repeat(2), reduction="none").view(2, -1).mean(1))
    F.cross_entropy(model(X), Y).backward()
    parts = [twin[0].weight.grad.T, twin[0].bias.grad, norm.weight.grad, norm.bias.grad, slope.weight.grad,
             twin[2].weight.grad.T, twin[2].bias.grad]  # fmt: skip
    torch.testing.assert_close(network.grads[1], torch.cat([part.flatten() for part in parts]))
    assert network.is_weight.sum() == D * 8 + 8 * C


def test_batch_normalisation_is_that_of_torch():
    network = Perceptrons((D, 8, C), [1], batch_norm=True, **DOUBLE)
    twin, norm = torch_twin(network), nn.BatchNorm1d(8).double()
    for rows in X.split(16):
        ours = network(rows.unsqueeze(0), training=True)[0]
        torch.testing.assert_close(ours, twin[2](norm(twin[0](rows)).relu()), rtol=0.0, atol=1e-12)
    norm.eval()
    torch.testing.assert_close(network(X.unsqueeze(0))[0], twin[2](norm(twin[0](X)).relu()), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(network.double()(X.unsqueeze(0)), network(X.unsqueeze(0)), rtol=0.0, atol=0.0)


def test_modules_train_as_perceptrons_do():
    ours = fitted([5, 6], [0.0, 0.4])
    begin = Perceptrons((D, 8, C), [5, 6], **DOUBLE)
    twins = iter([torch_twin(begin, 0), torch_twin(begin, 1)])
    theirs = fitted([5, 6], [0.0, 0.4], network=Modules(lambda *_: next(twins), D, C, [5, 6], **DOUBLE))
    x = X.expand(2, N, D)
    torch.testing.assert_close(ours.network(x), theirs.network(x), rtol=0.0, atol=1e-9)
    assert theirs.network.modules[0][0].weight.data_ptr() == theirs.network.values.data_ptr()


def test_modules_begin_by_their_seeds_and_leave_the_global_generator_alone():
    def make(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 5), nn.Dropout(0.5), nn.Linear(5, n_out))

    before = torch.get_rng_state()
    one, two = (Modules(make, D, C, [1, 2], **DOUBLE) for _ in range(2))
    assert one.values.equal(two.values)
    assert not one.values[0].equal(one.values[1])
    fitted([1, 2], network=one)
    assert torch.get_rng_state().equal(before)


def test_modules_without_parameters_are_refused():
    with pytest.raises(ConfigError, match="expected parameters to train, got ReLU"):
        Modules(lambda *_: nn.ReLU(), D, C, [0])
    with pytest.raises(ConfigError, match=r"expected a torch\.nn\.Module"):
        Modules(lambda *_: 3, D, C, [0])


def test_modules_that_are_one_or_answer_otherwise_are_refused():
    one = nn.Linear(D, C)
    with pytest.raises(ConfigError, match="expected new parameters for each member"):
        Modules(lambda *_: one, D, C, [0, 1])
    with pytest.raises(ConfigError, match=r"expected outputs \(16, 4\) for 16 rows, got \(16, 7\)"):
        fitted(network=Modules(lambda n_in, _: nn.Linear(n_in, 7), D, C, [5], **DOUBLE))


def test_modules_may_hold_parameters_in_any_layout():
    def make(n_in, n_out):
        layer = nn.Linear(n_in, n_out)
        layer.weight = nn.Parameter(layer.weight.detach().T.contiguous().T)
        return layer

    odd, plain = (Modules(m, D, C, [5], **DOUBLE) for m in (make, nn.Linear))
    torch.testing.assert_close(fitted(network=odd).network.values, fitted(network=plain).network.values)


def test_a_row_that_counts_twice_is_two_rows():
    weight = torch.ones(N, dtype=torch.float64)
    weight[:10], weight[10:15] = 2.0, 0.0
    rows = torch.cat([torch.arange(10), torch.arange(10), torch.arange(15, N)]).unsqueeze(0)
    settings = {"batch_size": None, "n_epochs": 20, "ent_coef": 0.2}
    weighted = fitted(table=Table(X, Y, weight), **settings)
    torch.testing.assert_close(
        weighted.network.values, fitted(rows=rows, **settings).network.values, rtol=0.0, atol=1e-9
    )


def test_entropy_is_kept_at_its_target():
    fitting = fitted([1, 2], ["target:0.7", "target:1.0:0.01"], n_epochs=150, learning_rate=0.02)
    x = X.expand(2, N, D)
    entropy = Classification().entropy(fitting.network(x)).mean(1)
    assert (entropy - torch.tensor([0.7, 1.0])).abs().max() < 0.05
    assert (fitting.ent_coef > 0.05).all()


def test_coefficient_follows_its_schedule():
    history = torch.stack(fitted(ent_coef="linear:1:0", n_epochs=4).history["ent_coef"])[:, 0]
    assert history.tolist() == pytest.approx(
        [1 - (epoch + 2 / 3) / 4 for epoch in range(4)]
    )  # at the last of three steps


def test_best_weights_are_restored():
    rows, held_out = torch.arange(36).unsqueeze(0), torch.arange(36, N).unsqueeze(0)
    settings = {"learning_rate": 0.1, "n_epochs": 60, "early_stopping": True, "tol": 0.0, "n_epochs_no_change": 5}
    fitting = fitted(rows=rows, held_out=held_out, **settings)
    losses = torch.stack(fitting.history["validation_loss"])[:, 0]
    found = F.cross_entropy(fitting.network(X[36:].unsqueeze(0))[0], Y[36:])
    assert found.item() == pytest.approx(losses.min().item())
    assert fitting.n_epochs.item() == int(losses.argmin()) + 1 + 5 < 60


@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_that_was_left_at_an_epoch_goes_on_from_it(early_stopping):
    sides = torch.arange(36).expand(2, -1), torch.arange(36, N).expand(2, -1) if early_stopping else None
    fit = FitConfig(
        n_epochs=12, early_stopping=early_stopping, n_epochs_no_change=3, learning_rate=0.1, dtype="float64"
    )
    once, twice = (Fitting(Perceptrons.of(fit, D, C, [0, 1]), Classification(), fit, [0, 1]) for _ in range(2))
    once.run(Table(X, Y), *sides)

    def leave(epoch, _):
        if epoch == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        twice.run(Table(X, Y), *sides, leave)
    assert twice.n_done == 4
    twice.run(Table(X, Y), *sides)
    assert torch.equal(twice.network.values, once.network.values)
    assert torch.equal(torch.stack(twice.history["loss"]), torch.stack(once.history["loss"]))


def test_early_stopping_gives_the_coefficient_that_the_best_weights_had():
    rows, held_out = torch.arange(36).unsqueeze(0), torch.arange(36, N).unsqueeze(0)
    settings = {"learning_rate": 0.1, "n_epochs": 60, "early_stopping": True, "n_epochs_no_change": 5}
    fitting = fitted(ent_coefs=["linear:0.2:0.1"], rows=rows, held_out=held_out, **settings)
    best = fitting.n_epochs.item() - 5
    assert best < 55
    assert fitting.ent_coef == fitting.history["ent_coef"][best - 1]


def test_a_falling_coefficient_is_no_lack_of_improvement():
    # CE - c H rises as c falls, whatever the network learns.
    rows, held_out = torch.arange(36).unsqueeze(0), torch.arange(36, N).unsqueeze(0)
    settings = {"learning_rate": 0.01, "n_epochs": 40, "n_epochs_no_change": 5}
    fitting = fitted(ent_coefs=["linear:2:0"], rows=rows, held_out=held_out, early_stopping=True, **settings)
    assert fitting.n_epochs.item() == 40
    assert fitting.ent_coef.item() < 0.2


@pytest.mark.parametrize("kind", ["perceptrons", "modules"])
def test_a_row_left_over_is_not_normalised_by_itself(kind):
    network = Perceptrons((D, 8, C), [5], batch_norm=True, **DOUBLE)
    if kind == "modules":  # torch refuses such a minibatch
        layers = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))
        network = Modules(lambda *_: layers, D, C, [5], **DOUBLE)
    sizes = []

    class Counted(Classification):
        def loss(self, outputs, target, ent_coef):
            sizes.append(target.shape[1])
            return super().loss(outputs, target, ent_coef)

    fitted(network=network, task=Counted(), rows=torch.arange(33).unsqueeze(0), n_epochs=1)
    assert sizes == [16, 17]


def test_one_run_is_taken_out_of_a_batch():
    network = Perceptrons((D, 8, C), [5, 6], batch_norm=True)
    network(X.float().expand(2, N, D), training=True)
    x = X.expand(2, N, D)
    torch.testing.assert_close(network.double(1)(x[:1])[0], network.double()(x)[1], rtol=0.0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"dropout": 0.3}, {"batch_norm": True, "optimizer": "sgd"}], ids=str)
def test_training_on_cuda_is_that_on_the_cpu(settings):
    rows, held_out = torch.arange(36).expand(2, 36), torch.arange(36, N).expand(2, 12)
    ends = []
    for device in ("cpu", "cuda"):
        layers = {name: value for name, value in settings.items() if name != "optimizer"}
        network = Perceptrons((D, 8, C), [5, 6], **layers, device=device, **DOUBLE)
        table = Table(X.to(device), Y.to(device), torch.ones_like(X[:, 0], device=device))
        fitting = fitted(
            [5, 6], [0.1, "target:0.5"], network=network, table=table, rows=rows, held_out=held_out, **settings
        )
        ends.append(fitting.network.values.cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=0.0, atol=1e-9)


def test_gaussians_learn_mean_and_deviation():
    noise = torch.randn(N, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ones = torch.ones(N, D, dtype=torch.float64)
    network = Perceptrons((D, 2), [0, 1], **DOUBLE)
    fitting = fitted(
        [0, 1], [0.0, 0.5], network=network, task=Regression(), table=Table(ones, 3.0 + 2.0 * noise),
        batch_size=None, n_epochs=700, learning_rate="cosine:0.05:0",
    )  # fmt: skip
    mean, log_std = Regression.split(fitting.network(ones.expand(2, N, D))[:, 0])
    expected, std = 3.0 + 2.0 * noise.mean(), 2.0 * noise.std(correction=0)
    torch.testing.assert_close(mean[:, 0], expected.expand(2), rtol=0.0, atol=1e-3)
    torch.testing.assert_close(
        log_std.exp()[:, 0], torch.stack([std, std / 0.5**0.5]), rtol=1e-3, atol=0.0
    )  # Var / (1 - coef)


def test_gradients_are_clipped_per_run():
    fitting = fitted([1, 2], max_grad_norm=1e-6, n_epochs=1, batch_size=None, optimizer="sgd", learning_rate=1.0)
    begin = Perceptrons((D, 8, C), [1, 2], **DOUBLE)
    moved = torch.linalg.vector_norm(fitting.network.values - begin.values, dim=1)
    assert moved.tolist() == pytest.approx([1e-6, 1e-6], rel=1e-3)


def test_a_loss_that_is_not_finite_says_what_to_do():
    with pytest.raises(ConfigError, match=r"the loss is not finite after 1 epochs: scale the inputs"):
        fitted(table=Table(X * 1e308, Y), learning_rate=1e3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ent_coef": "auto"}, "no target is everyone's"),
        ({"ent_coef": -1.0}, "expected >= 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"device": "gpu"}, "device"),
        ({"batch_norm": True, "layer_norm": True}, "layer_norm: expected none beside batch_norm, got both"),
        ({"batch_norm": True, "batch_size": 1}, "expected at least 2 rows, which batch_norm normalises over"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"optimizer": "lbfgs"}, "batch_size: expected none with lbfgs"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        FitConfig(**settings)
