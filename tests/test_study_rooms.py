"""Activation, initialisation, depth, regularisation, pruning and splits: each against what is known of it."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from entropic_rl.cli import main
from entropic_rl.errors import ConfigError
from entropic_rl.plots.activations import plot_activations
from entropic_rl.plots.lines import Line, Panel, plot_lines
from entropic_rl.studies.activation import STUDY as ACTIVATION
from entropic_rl.studies.activation_curves import curve
from entropic_rl.studies.choosing import chosen_score
from entropic_rl.studies.config import StudyConfig
from entropic_rl.studies.experiment import Job, begin, problem_of
from entropic_rl.studies.first_step import FirstStep, first_step, typical
from entropic_rl.studies.regularisation import STUDY as REGULARISATION
from entropic_rl.studies.sparse import METHODS, prune
from entropic_rl.supervised.config import FitConfig

WINE = StudyConfig(data="wine")


def settings(**changes):
    return FitConfig(**{"net_arch": (8, 8), "n_epochs": 2, "dtype": "float64", **changes})


def run(study, out, *flags):
    small = ["--data", "wine", "--n-epochs", "2", "--seeds", "2", "--no-progress"]
    return main([study, *small, "--out", str(out), *flags], verb="study")


def numbers_of(out):
    return json.loads((out / "study.json").read_text())


# Activation


@pytest.mark.parametrize("name", ACTIVATION.values)
def test_drawn_derivatives_are_those_of_differences(name):
    z, step = np.linspace(-3.0, 3.0, 40), 1e-6  # no place is a kink
    ahead, behind = (np.asarray(curve(name, z + sign * step).outputs) for sign in (1, -1))
    np.testing.assert_allclose(curve(name, z).slopes, (ahead - behind) / (2 * step), atol=1e-8)


def test_activations_leave_two_pictures(tmp_path):
    assert run("activation", tmp_path / "x", "--values", "relu", "prelu", "--rates", "0.01", "--net-arch", "8") == 0
    figures = {path.stem: path.read_text() for path in (tmp_path / "x" / "figures").iterdir()}
    assert set(figures) == {"activation", "activation-curves"}
    assert figures["activation-curves"].count("</svg>") == 1
    assert "prelu" in figures["activation-curves"]


# The first step


def test_first_step_is_that_of_torch():
    problem = problem_of(WINE, [3, 4])
    jobs = [Job("", settings(initialisation="he", activation="tanh"), seed) for seed in (3, 4)]
    found = first_step(jobs, problem)
    fitting, table, rows = begin(jobs, problem)
    state = fitting.network.state_dict()
    model = nn.Sequential(nn.Linear(13, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    layers = [model[0], model[2], model[4]]
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(state[f"{i}.weight"][1].T)
            layer.bias.copy_(state[f"{i}.bias"][1, 0])
    x, target = table.x[rows["train"][1]], table.target[rows["train"][1]]
    F.cross_entropy(model(x), target).backward()
    norms = [torch.cat([p.grad.flatten() for p in layer.parameters()]).norm().item() for layer in layers]
    np.testing.assert_allclose(found.gradients[1], norms, rtol=1e-9)
    sizes = [model[:stop](x).square().mean().sqrt().item() for stop in (2, 4, 5)]
    np.testing.assert_allclose(found.outputs[1], sizes, rtol=1e-9)


def test_gradients_vanish_in_deep_sigmoid_networks_and_not_with_batch_norm_or_relu():
    problem = problem_of(WINE, [0])

    def shrinks(**changes):
        return float(first_step([Job("", settings(net_arch=(16,) * 20, **changes), 0)], problem).shrinks[0])

    assert shrinks(activation="sigmoid") < 1e-6
    assert 0.01 < shrinks(activation="sigmoid", batch_norm=True) < 100.0
    assert 0.01 < shrinks(activation="relu") < 100.0
    assert 0.01 < shrinks(activation="relu", initialisation="he") < 100.0


def test_zeros_have_no_outputs_and_no_gradients_but_at_the_end():
    step = first_step([Job("", settings(initialisation="zeros"), 0)], problem_of(WINE, [0]))
    assert not step.outputs.any()
    assert not step.gradients[:, :-1].any()
    assert np.isnan(step.shrinks).all()
    assert np.isnan(typical(step.shrinks).value)


def test_typical_sizes_are_geometric_means():
    assert typical(np.array([1.0, 100.0])).value == pytest.approx(10.0)
    assert typical(np.array([0.0, 1.0])).value == 0.0
    assert np.isnan(FirstStep(np.ones((2, 2)), np.ones((2, 2))).shrinks).all()  # a single hidden layer


def test_initialisations_leave_their_layers(tmp_path):
    values = ["--values", "he", "zeros", "--rates", "0.01", "--net-arch", "8", "8"]
    assert run("initialisation", tmp_path / "x", *values) == 0
    numbers = numbers_of(tmp_path / "x")
    assert np.shape(numbers["first_step"]["he"]["gradient_norm"]) == (2, 3)
    assert "none at all with zeros" in numbers["sentence"]
    assert "gradient, first hidden" in (tmp_path / "x" / "table.csv").read_text()


# Depth


def test_every_network_stands_at_every_depth(tmp_path):
    flags = ["--values", "3", "1", "--networks", "relu", "sigmoid", "relu", "--width", "4"]
    assert run("depth", tmp_path / "x", *flags) == 0
    numbers = numbers_of(tmp_path / "x")
    assert [value["value"] for value in numbers["values"]] == ["relu 3", "relu 1", "sigmoid 3", "sigmoid 1"]
    assert np.shape(numbers["first_step"]["sigmoid 3"]["gradient_norm"]) == (2, 4)
    assert "relu reaches" in numbers["sentence"]


# Regularisation


def test_every_regularisation_changes_one_setting():
    plain = FitConfig()
    for text in REGULARISATION.values[1:]:
        changed = FitConfig(
            **{name: float(x) if isinstance(x, str) else x for name, x in REGULARISATION.changes(text).items()}
        )
        differing = [name for name in FitConfig.__dataclass_fields__ if getattr(changed, name) != getattr(plain, name)]
        assert len(differing) == 1, text
        assert differing[0] in REGULARISATION.sets
    assert REGULARISATION.changes("none") == {}


def test_regularisation_shows_the_gap(tmp_path):
    assert run("regularisation", tmp_path / "x", "--values", "none", "l2:0.1", "layer-norm", "--net-arch", "8") == 0
    assert "training loss" in (tmp_path / "x" / "table.csv").read_text().splitlines()[0]
    assert "test loss less training loss" in (tmp_path / "x" / "figures" / "regularisation.svg").read_text()


# Pruning


@pytest.fixture(scope="module")
def pruned():
    problem = problem_of(WINE, [0, 1])
    fit = settings(net_arch=(8,), n_epochs=6, learning_rate=0.02)
    return problem, fit, prune(fit, problem, [0.0, 50.0, 90.0], n_tuning=3, l1=0.0)


def test_pruning_nothing_changes_nothing(pruned):
    _, _, (records, n_weights) = pruned
    by = {(record.job.value, record.job.seed): record for record in records}
    assert n_weights == 13 * 8 + 8 * 3
    assert len(by) == len(records) == 2 * (1 + 3 * len(METHODS))
    for seed in (0, 1):
        for method in ("one-shot", "one-shot after L1"):  # whose weight is 0 here
            assert by[f"{method} at 0 %", seed].measures == pytest.approx(by["dense", seed].measures, rel=1e-9)
        assert by["one-shot at 90 %", seed].measures["train_loss"] > by["dense", seed].measures["train_loss"]
        tuned = by["fine-tuned at 50 %", seed].measures["train_loss"]
        assert tuned < by["one-shot at 50 %", seed].measures["train_loss"]


def test_a_pruned_run_is_the_same_alone(pruned):
    _, fit, (records, _) = pruned
    alone, _ = prune(fit, problem_of(WINE, [1]), [90.0], n_tuning=3, l1=0.0)
    together = {record.job.value: record for record in records if record.job.seed == 1}
    with pytest.raises(ConfigError, match="sparsity"):
        prune(fit, problem_of(WINE, [1]), [110.0], n_tuning=1, l1=0.0)
    for record in alone:
        assert record.measures == pytest.approx(together[record.job.value].measures, rel=1e-7)
        assert record.n_steps == together[record.job.value].n_steps


def test_pruning_leaves_a_row_per_sparsity(tmp_path):
    assert run("pruning", tmp_path / "x", "--values", "90", "0", "--fine-tuning", "1", "--net-arch", "8") == 0
    rows = (tmp_path / "x" / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["dense", "90", "0"]
    assert "without 90 % of its weights" in numbers_of(tmp_path / "x")["sentence"]


# Splits


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_expected_choice_is_the_mean_over_all_choices(k):
    rng = np.random.default_rng(0)
    chooser, reported = np.array([0.3, 0.9, 0.5, 0.9, 0.1, 0.5]), rng.normal(size=6)
    found = []
    for picked in itertools.combinations(range(6), k):
        own = np.array(picked)
        best = own[chooser[own] == chooser[own].max()]
        found.append(reported[best].mean())  # ties at random
    assert chosen_score(chooser, reported, k) == pytest.approx(np.mean(found))


def test_choice_by_noise_flatters_itself_and_nothing_else():
    rng = np.random.default_rng(1)
    noise, other = rng.normal(size=(2, 400, 16))
    flattered = np.mean([chosen_score(own, own, 16) for own in noise])
    honest = [chosen_score(own, fresh, 16) for own, fresh in zip(noise, other, strict=True)]
    assert flattered == pytest.approx(1.766, abs=0.1)  # the expected largest of 16 standard normals
    assert abs(np.mean(honest)) < 4 * np.std(honest) / 20
    with pytest.raises(ValueError, match="k: expected 1 to 16"):
        chosen_score(noise[0], noise[0], 17)


def test_splits_keep_rows_apart_and_report_what_was_trained(tmp_path):
    assert run("splits", tmp_path / "x", "--values", "3", "1", "--net-arch", "4", "--n-epochs", "3") == 0
    numbers = numbers_of(tmp_path / "x")
    assert numbers["candidates"] == [1, 3]
    n = numbers["n_rows"]
    assert n["validation"] == n["test"]
    assert sum(n.values()) == 178
    scores = numbers["scores"]["chosen on test rows: its test score"]
    runs = np.genfromtxt(tmp_path / "x" / "runs.csv", delimiter=",", names=True)
    by_seed = runs["test"].reshape(2, 3)
    np.testing.assert_allclose(np.array(scores), np.stack([by_seed.mean(1), by_seed.max(1)], 1), atol=1e-5)
    truth = np.array(numbers["scores"]["chosen on test rows: the truth"])
    flattery = np.array(numbers["flattery"]["test score, chosen on test rows"])
    np.testing.assert_allclose(flattery, np.array(scores) - truth)


# Bad input


@pytest.mark.parametrize(
    ("study", "flags", "words"),
    [
        ("activation", ["--values", "relu", "gelo"], "did you mean 'gelu'"),
        ("initialisation", ["--values", "he", "she"], "initialisation: expected"),
        ("depth", ["--values", "1", "0"], "--values: expected numbers of hidden layers from 1 to 100, got '0'"),
        ("depth", ["--values", "1", "2", "--width", "0"], "--width: expected at least 1 unit, got 0"),
        ("depth", ["--networks", "relus"], "relus"),
        ("regularisation", ["--values", "none", "l2"], "got 'l2'"),
        ("regularisation", ["--values", "none", "dropouts:1"], "did you mean 'dropout'"),
        ("regularisation", ["--values", "none", "l2:-1"], "l2: expected"),
        ("pruning", ["--values", "0", "100"], "expected percentages of weights from 0 to below 100, got '100'"),
        ("pruning", ["--values", "50", "50.0"], "--values: expected different ones, got 50 and 50.0"),
        ("pruning", ["--values", "0", "nan"], "got 'nan'"),
        ("pruning", ["--fine-tuning", "0"], "expected at least 1 epoch"),
        ("pruning", ["--sparse-l1", "nan"], "expected at least 1 epoch and a weight >= 0"),
        ("splits", ["--values", "1", "1.5"], "--values: expected numbers of candidates from 1 to 1000, got '1.5'"),
        ("splits", ["--test-fraction", "0.2", "--validation-fraction", "0.5"], "expected at least twice as many"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(study, flags, words, tmp_path, capsys):
    assert run(study, tmp_path / "x", *flags) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(err) == 1
    assert words in err[0]
    assert not (tmp_path / "x").exists()


def test_pictures_of_nothing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="curves: expected at least one"):
        plot_activations(tmp_path / "x.svg", [])
    line = Line([1], [1], [1], [1])
    with pytest.raises(ConfigError, match="panels: expected lines of a, got b"):
        plot_lines(tmp_path / "x.svg", [Panel("x", "y", {"b": line})], series=["a"])
    with pytest.raises(ConfigError, match="got no panel"):
        plot_lines(tmp_path / "x.svg", [], series=["a"])
    assert list(tmp_path.iterdir()) == []


def test_lines_of_one_series_look_alike_everywhere(tmp_path):
    line = Line([1, 10], [1e-9, 1.0], [1e-10, 0.5], [1e-8, 2.0])
    panels = [
        Panel("x", "y", {"b": line}, {1.0: "one"}, log_x=True, log_y=True),
        Panel("x", "z", {"a": line, "b": line}),
    ]
    plot_lines(tmp_path / "x.svg", panels, series=["a", "b"])
    drawn = (tmp_path / "x.svg").read_text()
    assert drawn.count(">b<") == 1  # named once in the legend
    assert 'id="s1-0' in drawn
    assert 'id="s1-1' in drawn
