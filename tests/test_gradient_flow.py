"""Gradient flow of modules: sums, angles and shares are right, planted faults are named, nothing is disturbed."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from entropic_rl.diagnostics.flow import GradientFlow, split_gradient
from entropic_rl.diagnostics.parts import gradient_over_time, gradient_per_head
from entropic_rl.diagnostics.record import FlowRecord, Rhythm
from entropic_rl.diagnostics.signals import SIGNALS, Layer, gradient_signals, step_signals
from entropic_rl.diagnostics.units import unit_signals
from entropic_rl.diagnostics.verdicts import Way, judge
from entropic_rl.errors import ConfigError
from entropic_rl.losses import entropic_cross_entropy

N_CLASSES = 5


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perceptron(sizes, activation=nn.ReLU, gain=None):
    layers = []
    for n_in, n_out in pairwise(sizes):
        linear = nn.Linear(n_in, n_out)
        if gain is not None:
            nn.init.orthogonal_(linear.weight, gain)
            nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Convolutional(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3)
        self.norm = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.head = nn.Linear(16 * 4, N_CLASSES)

    def forward(self, x):
        x = F.relu(self.first(x.view(-1, 1, 4, 4)))
        return self.head(F.relu(self.norm(self.second(x))).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.head = nn.LSTM(4, 16, batch_first=True), nn.Linear(16, N_CLASSES)

    def forward(self, x):
        return self.head(self.memory(x.view(-1, 4, 4))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(4, 16) * 0.25)
        self.embed, self.head = nn.Linear(4, 16), nn.Linear(16, N_CLASSES)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.head(self.body(self.embed(x.view(-1, 4, 4)) + self.positions).mean(1))


HEALTHY = {
    "mlp": lambda: perceptron([16, 32, 32, N_CLASSES]),
    "cnn": Convolutional,
    "batch-norm": lambda: Convolutional(norm=True),
    "rnn": Recurrent,
    "transformer": Attentive,
}
healthy = pytest.mark.parametrize("kind", HEALTHY)


def made(kind, seed=0):
    torch.manual_seed(seed)
    return HEALTHY[kind]()


def batches(n, seed=0):
    """Rows whose class can be learned."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        x = torch.randn(32, 16, generator=generator)
        yield x, x[:, :N_CLASSES].argmax(1)


def fit(module, n_steps, *, flow=None, optimizer=None, ent_coef=0.1):
    optimizer = optimizer or torch.optim.Adam(module.parameters(), 3e-3)
    for x, labels in batches(n_steps):
        if flow is not None:
            flow.look(x, loss=lambda z, y=labels: F.cross_entropy(z, y), ent_coef=ent_coef)
        optimizer.zero_grad()
        entropic_cross_entropy(module(x), labels, ent_coef=ent_coef).mean().backward()
        optimizer.step()
    return optimizer


def watched(module, n_steps=1, make_optimizer=None, **options):
    optimizer = (make_optimizer or (lambda p: torch.optim.Adam(p, 3e-3)))(
        [p for p in module.parameters() if p.requires_grad]
    )
    flow = GradientFlow(module, optimizer, every=1)
    fit(module, n_steps, flow=flow, optimizer=optimizer, **options)
    return flow


def states(flow):
    return {verdict.layer: verdict.state for verdict in flow.verdicts}


# What is measured


@healthy
def test_task_and_entropy_gradients_sum_to_that_of_the_entropic_loss(kind):
    module = made(kind).double().eval()
    x, labels = next(batches(1))
    x = x.double()
    split = split_gradient(module, (x,), lambda z: F.cross_entropy(z, labels), ent_coef=0.3)
    entropic_cross_entropy(module(x), labels, ent_coef=0.3).mean().backward()
    total = torch.cat([p.grad.flatten() for p in split.parameters])
    for layer in split.layers:
        found, expected = (split.task + split.entropy)[0, layer.columns], total[layer.columns]
        assert (found - expected).norm() <= 1e-6 * expected.norm()
    assert sum(layer.n_parameters for layer in split.layers) == sum(p.numel() for p in module.parameters())


def test_norms_and_angle_of_hand_made_gradients():
    layers = [Layer("a", slice(0, 2)), Layer("b", slice(2, 3))]
    task, entropy = torch.tensor([[3.0, 4.0, 2.0]]), torch.tensor([[4.0, -3.0, -1.0]])
    found = gradient_signals(layers, torch.tensor([[1.0, 0.0, 2.0]]), task, entropy)
    assert found["task_norm"].tolist() == [[5.0, 2.0]]
    assert found["entropy_norm"].tolist() == [[5.0, 1.0]]
    assert found["total_norm"].tolist() == [[pytest.approx(50**0.5), 1.0]]
    assert found["cosine"].tolist() == [[0.0, -1.0]]  # at right angles, and against each other
    assert found["ratio"].tolist() == [[1.0, 0.5]]


def test_shares_of_a_step_sum_to_one_and_follow_the_scale():
    # Scaled: task (3, 0), entropy (1, 2); their sum (4, 2) has the squared length 20, of which entropy has 1*4 + 2*2.
    layers = [Layer("a", slice(0, 2))]
    task, entropy, scale = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    weights = torch.tensor([[1.0, 0.0]])
    found = step_signals(layers, weights, weights * 1.5, task=task, entropy=entropy, scale=scale)
    assert found["entropy_share"].item() == pytest.approx(8 / 20)
    assert found["update_ratio"].item() == pytest.approx(0.5)
    swapped = step_signals(layers, weights, weights, task=entropy, entropy=task, scale=scale)
    assert swapped["entropy_share"].item() == pytest.approx(12 / 20)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "SGD"])
def test_share_of_the_step_is_measured_after_the_optimizers_scaling(name):
    torch.manual_seed(0)
    module = nn.Linear(16, N_CLASSES)
    make = getattr(torch.optim, name)
    flow = watched(module, 3, lambda p: make(p, lr=0.01), ent_coef=0.5)
    twin = nn.Linear(16, N_CLASSES)
    torch.manual_seed(0)
    twin.reset_parameters()
    optimizer = make(twin.parameters(), lr=0.01)
    for i, (x, labels) in enumerate(batches(3)):
        split = split_gradient(twin, (x,), lambda z, y=labels: F.cross_entropy(z, y), ent_coef=0.5)
        optimizer.zero_grad()
        entropic_cross_entropy(twin(x), labels, ent_coef=0.5).mean().backward()
        optimizer.step()
        second = [optimizer.state[p].get("exp_avg_sq", optimizer.state[p].get("square_avg")) for p in split.parameters]
        if second[0] is None:
            scale = 1.0
        else:
            corrected = torch.cat([s.flatten() for s in second]) / (1 - 0.999 ** (i + 1) if "Adam" in name else 1.0)
            scale = 1.0 / (corrected.sqrt() + 1e-8)
        of_entropy, of_task = (split.entropy * scale).double(), (split.task * scale).double()
        total = of_entropy + of_task
        expected = float((of_entropy * total).sum() / (total * total).sum())
        assert flow.series().signals["entropy_share"][i, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "outputs", "dead", "saturated"),
    [
        ("relu", [[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 1.0]], 0.25, None),
        ("tanh", [[0.99, 0.5], [-0.98, 0.0]], 0.0, 0.5),
        ("sigmoid", [[0.001, 0.5], [0.5, 0.4]], 0.0, 0.25),
        ("elu", [[-0.99, 1.0], [-0.98, 0.1]], 0.5, None),
    ],
)
def test_dead_and_saturated_units_are_counted(activation, outputs, dead, saturated):
    found = unit_signals(torch.tensor([outputs]), activation)
    assert found["dead"].item() == dead
    assert (found["saturated"].item() if "saturated" in found else None) == saturated


def test_activations_are_seen_as_modules_and_as_functions():
    as_modules, as_functions = watched(made("mlp")), watched(made("cnn"))
    assert np.isfinite(as_modules.series().signals["dead"][0, :2]).all()
    assert np.isfinite(as_functions.series().signals["dead"][0, :2]).all()


def test_layers_stand_in_the_order_in_which_they_compute():
    assert watched(made("cnn")).series().layers == ("first", "second", "head")
    layers = watched(made("transformer")).series().layers
    assert layers[0] == "Attentive"  # the positions are its own
    assert layers[-1] == "head"
    assert layers.index("body.layers.0.self_attn") + 1 == layers.index("body.layers.0.self_attn.out_proj")


# Watching disturbs nothing


@pytest.mark.parametrize("kind", ["batch-norm", "transformer"])  # one keeps statistics, one drops units at random
@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
def test_watching_changes_no_bit_of_a_training(kind, name):
    def train(watch):
        module = made(kind)
        optimizer = getattr(torch.optim, name)(module.parameters(), lr=1e-3)
        torch.manual_seed(7)
        fit(module, 6, flow=GradientFlow(module, optimizer, every=2) if watch else None, optimizer=optimizer)
        return module.state_dict(), torch.get_rng_state(), [p.grad for p in module.parameters()]

    plain, seen = train(False), train(True)
    assert all(torch.equal(plain[0][name], seen[0][name]) for name in plain[0])
    assert torch.equal(plain[1], seen[1])
    assert all(torch.equal(a, b) for a, b in zip(plain[2], seen[2], strict=True))


def test_no_hook_is_left_behind():
    module = made("mlp")
    watched(module)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())


def test_a_look_comes_every_so_many_steps_and_more_rarely_in_a_long_training():
    rhythm = Rhythm(4)
    assert [i for i in range(16) if rhythm.is_due()] == [
        0,
        5,
        10,
        15,
    ]  # odd: another minibatch of the rollout each time
    record = FlowRecord(("a",), [Way()], Rhythm(1))
    n_looks = 0
    for step in range(5000):
        if record.rhythm.is_due():
            n_looks += 1
            record.add(step, dict.fromkeys(SIGNALS, torch.ones(1, 1, dtype=torch.float64)))
    steps = record.series(0).steps
    assert 100 <= len(steps) <= 200
    assert n_looks < 1000
    assert np.ptp(np.diff(steps)) <= 2 * np.median(np.diff(steps))


# Faults are named, health is not doubted


class Bad(nn.Module):
    """Three layers with something between the second and the third."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, N_CLASSES)
        self.function = function

    def forward(self, x):
        return self.c(self.function(self.b(torch.tanh(self.a(x)))))


def dead():
    module = perceptron([16, 16, 16, N_CLASSES])
    module[2].bias.data.fill_(-50.0)
    return module


def frozen():
    module = perceptron([16, 16, 16, N_CLASSES])
    module[2].requires_grad_(False)
    return module


def test_a_deep_sigmoid_network_vanishes_towards_its_inputs():
    torch.manual_seed(0)
    found = list(states(watched(perceptron([16] * 21 + [N_CLASSES], nn.Sigmoid))).values())
    assert found[:12] == ["vanishing"] * 12
    assert found[-2:] == ["healthy", "healthy"]


@pytest.mark.parametrize(("activation", "depth"), [(nn.Tanh, 20), (nn.ReLU, 8)])
def test_initialisation_with_a_gain_of_four_explodes(activation, depth):
    torch.manual_seed(0)
    found = states(watched(perceptron([16] + [32] * depth + [N_CLASSES], activation, gain=4.0)))
    assert "exploding" in found.values()
    assert set(found.values()) <= {"healthy", "exploding"}


def test_a_dead_layer_is_told_from_the_layers_that_it_cuts_off():
    torch.manual_seed(0)
    flow = watched(dead())
    assert states(flow) == {"0": "vanishing", "2": "dead", "4": "healthy"}
    assert "2 after it is dead" in flow.verdicts[0].cause


def test_a_frozen_layer_is_named_with_the_reason():
    torch.manual_seed(0)
    flow = watched(frozen())
    assert states(flow) == {"0": "healthy", "2": "frozen", "4": "healthy"}
    assert "require gradients" in flow.verdicts[1].cause


def test_a_layer_that_the_optimizer_does_not_have_is_frozen():
    torch.manual_seed(0)
    module = perceptron([16, 16, N_CLASSES])
    optimizer = torch.optim.Adam(module[2].parameters())
    flow = GradientFlow(module, optimizer, every=1)
    fit(module, 2, flow=flow, optimizer=optimizer)
    assert states(flow) == {"0": "frozen", "2": "healthy"}
    assert "steps leave it as it is" in flow.verdicts[0].cause


def test_a_layer_without_part_in_the_loss_is_frozen():
    torch.manual_seed(0)
    module = Bad(lambda x: x)
    module.spare = nn.Linear(16, 16)
    flow = watched(module)
    assert states(flow)["spare"] == "frozen"
    assert "no part in the loss" in next(v.cause for v in flow.verdicts if v.layer == "spare")


@pytest.mark.parametrize(
    ("function", "source", "word"),
    [
        (lambda x: torch.log(-x.abs() - 1.0), "c", "outputs"),
        (lambda x: x + (0.0 * x).abs().sqrt(), "b", "gradient"),
    ],
)
def test_the_source_of_nan_is_named_forwards_and_backwards(function, source, word):
    torch.manual_seed(0)
    flow = watched(Bad(function))
    assert states(flow)[source] == "not finite"
    found = {verdict.layer: verdict.cause for verdict in flow.verdicts if verdict.state == "not finite"}
    assert word in found.pop(source)
    assert all(f"since {source} is" in cause for cause in found.values())


@healthy
@pytest.mark.parametrize("n_steps", [1, 60])
def test_healthy_networks_raise_no_alarm(kind, n_steps):
    assert set(states(watched(made(kind, seed=n_steps), n_steps)).values()) == {"healthy"}


def test_layers_of_other_scales_are_healthy():
    # Policy heads begin a hundredth as large as other layers: their gradient is a hundred times as large.
    torch.manual_seed(0)
    module = perceptron([16, 32, 32, N_CLASSES], nn.Tanh, gain=2**0.5)
    module[4].weight.data.mul_(0.01)
    assert set(states(watched(module)).values()) == {"healthy"}


def test_verdicts_know_nothing_of_what_was_not_measured():
    unknown = {name: np.array([math.nan]) for name in SIGNALS}
    known = {"total_norm": np.array([1.0]), "weight_norm": np.array([1.0])}
    assert judge(["a"], unknown | known, [Way()])[0].state == "healthy"


# Words and errors


def test_the_report_is_a_table_with_a_line_per_fault():
    torch.manual_seed(0)
    text = str(watched(dead()))
    assert "entropy/task" in text
    assert "0: vanishing; it has no gradient: 2 after it is dead; mend 2" in text
    torch.manual_seed(0)
    assert str(watched(made("mlp"))).endswith("all 3 layers are healthy")


def test_without_entropy_or_optimizer_their_columns_are_left_out():
    module = made("mlp")
    flow = GradientFlow(module)
    x, labels = next(batches(1))
    assert flow.look(x, loss=lambda z: F.cross_entropy(z, labels))
    text = str(flow)
    assert "entropy" not in text.splitlines()[0]
    assert "update" not in text.splitlines()[0]


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, N_CLASSES)

    def forward(self, x):
        y = self.layer(x).exp()
        return y.add_(1.0) * y


def cross_entropy(z):
    return F.cross_entropy(z, torch.zeros(len(z), dtype=torch.int64))


@pytest.mark.parametrize(
    ("module", "loss", "x", "match"),
    [
        (nn.ReLU(), cross_entropy, rows(4, 16), "module: expected parameters that are trained, got none"),
        (nn.Linear(16, 3).requires_grad_(False), cross_entropy, rows(4, 16), "got only frozen ones"),
        (nn.Linear(16, 3).half(), cross_entropy, rows(4, 16), "expected float32 or float64, got float16 in 'weight'"),
        (nn.Linear(16, 3), cross_entropy, rows(4, 16).half(), "expected float32 or float64, got float16 in 'input 0'"),
        (nn.Linear(16, 3), lambda z: z, rows(4, 16), r"loss: expected one real number as a tensor, got shape \(4, 3\)"),
        (nn.Linear(16, 3), lambda z: 1.0, rows(4, 16), "got float; take the mean"),
        (nn.Linear(16, 3), lambda z: torch.ones(()), rows(4, 16), "expected to depend on the module's output"),
        (nn.Linear(16, 3), cross_entropy, rows(4, 5), "expected to take the inputs"),
        (nn.Linear(16, 3), lambda z: z @ z, rows(4, 16), "expected to take the module's output"),
        (nn.LSTM(16, 3), cross_entropy, rows(4, 16), "expected one tensor of numbers as its output, got tuple"),
        (InPlace(), cross_entropy, rows(4, 16), "expected a backward pass"),
        (nn.LazyLinear(3), cross_entropy, rows(4, 16), "lazy"),
        ("text", cross_entropy, rows(4, 16), "expected a torch.nn.Module, got str"),
    ],
    ids=[
        "no parameters",
        "frozen",
        "half module",
        "half input",
        "vector loss",
        "float loss",
        "constant loss",
        "wrong input",
        "wrong output",
        "tuple",
        "in place",
        "lazy",
        "no module",
    ],
)
def test_bad_input_is_refused_in_one_sentence(module, loss, x, match):
    with pytest.raises(ConfigError, match=match) as caught:
        split_gradient(module, (x,), loss)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_refused():
    module = made("mlp")
    with pytest.raises(ConfigError, match="every: expected a whole number"):
        GradientFlow(module, every=0)
    with pytest.raises(ConfigError, match=r"expected a torch.optim.Optimizer, got float"):
        GradientFlow(module, 0.1)
    with pytest.raises(ConfigError, match="expected a look, got none"):
        GradientFlow(module).series()


def test_work_in_place_on_the_input_does_not_reach_the_callers():
    torch.manual_seed(0)
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(16, N_CLASSES))
    x = rows(8, 16)
    kept = copy.deepcopy(x)
    split_gradient(module, (x,), cross_entropy)
    assert torch.equal(x, kept)


# Within a layer


def last_step_only(z):
    return F.cross_entropy(z, torch.ones(len(z), dtype=torch.int64))


def test_gradient_over_time_decays_as_the_recurrent_weight_says():
    # Nearly linear: h_T = sum_t a^(T-t) x_t, so that the gradient at step t is a^(T-t) times the last.
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory, self.head = nn.RNN(1, 1, bias=False, batch_first=True), nn.Linear(1, 3)
            self.memory.weight_ih_l0.data.fill_(1.0)
            self.memory.weight_hh_l0.data.fill_(0.5)

        def forward(self, x):
            return self.head(self.memory(x)[0][:, -1])

    module, x = Linear().double(), 1e-6 * rows(8, 6, 1).double()
    found = gradient_over_time(module, x, loss=last_step_only, ent_coef=0.2)["memory"]
    expected = 0.5 ** torch.arange(5, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(found.task / found.task[-1], expected, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(found.entropy / found.entropy[-1], expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batch_first", [True, False])
def test_time_is_found_in_both_layouts(kind, batch_first):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = kind(3, 8, 2, batch_first=batch_first), nn.Linear(8, 4)

        def forward(self, x):
            states = self.body(x)[0]
            return self.head(states[:, -1] if batch_first else states[-1])

    torch.manual_seed(0)
    x = rows(5, 7, 3)
    found = gradient_over_time(Last(), x if batch_first else x.transpose(0, 1), loss=last_step_only)["body"]
    assert found.task.shape == (7,)
    assert found.entropy is None
    assert (found.task > 0).all()


def test_gradients_of_heads_sum_in_squares_to_that_of_the_attention():
    module = made("transformer").eval()
    x, labels = next(batches(1))
    arguments = {"loss": lambda z: F.cross_entropy(z, labels), "ent_coef": 0.1}
    found = gradient_per_head(module, x, **arguments)
    assert list(found) == ["body.layers.0.self_attn", "body.layers.1.self_attn"]
    attention = module.body.layers[0].self_attn
    F.cross_entropy(module(x), labels).backward()
    whole = attention.in_proj_weight.grad.norm() ** 2 + attention.out_proj.weight.grad.norm() ** 2
    heads = found["body.layers.0.self_attn"]
    assert heads.task.shape == heads.entropy.shape == (4,)
    assert heads.task.square().sum().item() == pytest.approx(whole.item(), rel=1e-5)


def test_a_head_that_is_cut_off_has_no_gradient():
    module = made("transformer").eval()
    attention = module.body.layers[1].self_attn
    attention.out_proj.weight.data[:, 4:8] = 0.0  # nobody reads the second head ...
    attention.in_proj_weight.data[2 * 16 + 4 : 2 * 16 + 8] = 0.0  # ... and it says nothing
    attention.in_proj_bias.data[2 * 16 + 4 : 2 * 16 + 8] = 0.0
    x, labels = next(batches(1))
    found = gradient_per_head(module, x, loss=lambda z: F.cross_entropy(z, labels))["body.layers.1.self_attn"]
    assert found.task[1] < 1e-6 * found.task[0]


def test_layers_without_time_or_heads_are_refused():
    x = rows(4, 16)
    with pytest.raises(ConfigError, match="expected a recurrent layer"):
        gradient_over_time(made("mlp"), x, loss=last_step_only)
    with pytest.raises(ConfigError, match="expected attention"):
        gradient_per_head(made("mlp"), x, loss=last_step_only)


# Its benchmark


@pytest.mark.slow
def test_the_benchmark_names_every_planted_fault_and_doubts_no_healthy_network(capsys, tmp_path):
    from entropic_rl.benchmarks.cli import main

    command = ["gradient-flow", "--seeds", "1", "--steps", "10", "--rounds", "1", "--pictures", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count("| 1 of 1 |") == 7
    assert printed.count("| 0 of ") == 6
    assert "NO" not in printed
    assert {path.name for path in tmp_path.iterdir()} == {"gradient_flow_deep.svg", "gradient_parts.svg"}
