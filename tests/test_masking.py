"""Gradient masking: planted nets are caught every time, plain ones never, and foolbox agrees about the attack."""

import warnings

import pytest
import torch
from torch import nn

from entropic_rl.benchmarks import robust_training
from entropic_rl.benchmarks.cli import main
from entropic_rl.benchmarks.robustness import MASKS, planted
from entropic_rl.robustness import AttackConfig, masking_flags, pgd, robustness_curve

QUICK = AttackConfig(n_steps=15, n_restarts=1, n_queries=60, n_noise=3)


@pytest.fixture(scope="module")
def nets():
    return planted(range(3), n_epochs=10)


@pytest.mark.parametrize("mask", MASKS)
def test_planted_masks_are_flagged_and_plain_nets_are_not(nets, mask):
    network, surrogate, x, y = nets
    curve = robustness_curve(MASKS[mask](network), x, y, eps=[0.0, 0.1, 0.2], box=(0, 1), config=QUICK,
                             surrogate=surrogate)  # fmt: skip
    flags = [masking_flags(curve, run) for run in range(3)]
    assert [bool(own.raised) for own in flags] == [mask != "plain"] * 3
    for own in flags:
        assert own.unsteady_answers.raised == (mask == "random noise")
        assert len(list(own)) == 7
        assert all((flag.measured > flag.limit) == flag.raised for flag in own)


def test_saturated_logits_have_dead_gradients_and_fall_to_the_margin(nets):
    network, surrogate, x, y = nets
    saturated = MASKS["logits x 100"](network)
    curve = robustness_curve(saturated, x, y, eps=[0.2], box=(0, 1), config=QUICK, surrogate=surrogate)
    flags = masking_flags(curve)
    assert flags.dead_gradients.raised
    assert flags.cross_entropy_is_weak.raised
    assert flags.transfer_beats_white_box.raised
    plain = robustness_curve(network, x, y, eps=[0.2], box=(0, 1), config=QUICK)
    assert (curve.accuracy("pgd cross-entropy") > 0.5).all()
    torch.testing.assert_close(curve.accuracy("pgd margin"), plain.accuracy("pgd margin"), atol=0.02, rtol=0.0)
    torch.testing.assert_close(curve.accuracy("pgd dlr"), plain.accuracy("pgd dlr"), atol=0.02, rtol=0.0)
    unasked = masking_flags(plain).transfer_beats_white_box
    assert not unasked.raised
    assert unasked.sentence == "no other model was given"


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.6)])
def test_attack_is_as_strong_as_foolbox(nets, norm, eps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SciPy's former names
        foolbox = pytest.importorskip("foolbox")
    network, _, x, y = nets

    class Plain(nn.Module):
        def forward(self, rows):
            return network(rows.expand(3, -1, -1))[0]

    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    theirs = attack(rel_stepsize=0.05, steps=40, random_start=False)
    _, _, fooled = theirs(foolbox.PyTorchModel(Plain().eval(), bounds=(0, 1)), x[0], y[0], epsilons=eps)
    own = pgd(Plain(), x[0], y[0], eps=eps, norm=norm, step_size=0.05, random_start=False, box=(0, 1), with_fgsm=False)
    assert abs(own.accuracy - (~fooled).double().mean()) <= 0.01


ATTACKS, MASKING = ["attacks", "--seeds", "1"], ["masking", "--trials", "1", "--eps", "0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "start"),
    [(ATTACKS, "| what must hold"), (MASKING, "| networks |")],
)
def test_measurements_are_printed_as_tables(arguments, start, monkeypatch, capsys):
    monkeypatch.setattr("entropic_rl.benchmarks.robustness._EPOCHS", 2)
    monkeypatch.setattr("entropic_rl.robustness.curves.AttackConfig", lambda: QUICK)
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(start)
    assert len({line.count("|") for line in lines}) == 1


def test_entropy_and_adversarial_training_are_measured_together(monkeypatch, capsys):
    case = robust_training.Case({"data": "digits", "n": 300, "eps": (0.0, 0.1), "adversarial": (0.1,)}, (0.0, 1.0),
                                {"n_epochs": 2, "net_arch": (4,)})  # fmt: skip
    monkeypatch.setitem(robust_training.CASES, "small", case)
    monkeypatch.setattr(robust_training, "AttackConfig", lambda: QUICK)
    assert main(["robustness", "--cases", "small", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [len([line for line in lines if line.startswith(f"| {name} |")]) for name in
            ("ent_coef 0", "ent_coef 1", "adversarial 0.1")] == [3, 4, 4]  # fmt: skip


def test_measurements_of_nothing_are_refused(capsys):
    assert main(["robustness", "--cases", "digit"]) == 2
    assert "expected some of 'digits, L-infinity'" in capsys.readouterr().err
    assert main(["masking", "--trials", "0"]) == 2
    assert "--trials: expected at least 1, got 0" in capsys.readouterr().err
