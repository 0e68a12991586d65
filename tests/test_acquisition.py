"""What rows are worth a label: against definitions in float64, brute force, and identities."""

import itertools
import math

import pytest
import torch

from entropic_rl.active import batches
from entropic_rl.active.acquisition import (
    bald,
    density_weighted,
    entropy,
    expected_entropy_reduction,
    least_confidence,
    margin,
    mixture,
    random,
    top,
)
from entropic_rl.active.batches import badge, batch_bald, k_center
from entropic_rl.entropy import mutual_information
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

F64 = torch.float64


def log_probs(*shape, seed=0, scale=2.0, dtype=F64):
    z = scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return z.log_softmax(-1).to(dtype)


def plain_entropy(p):
    return -torch.special.xlogy(p, p).sum(-1)


def stream(seed=0):
    return Stream([seed], "acquisition")


def test_scores_of_one_model_are_their_definitions():
    log_p = log_probs(50, 4)
    p = log_p.exp()
    ordered = p.sort(-1, descending=True).values
    torch.testing.assert_close(least_confidence(log_p), 1.0 - ordered[:, 0])
    torch.testing.assert_close(margin(log_p), ordered[:, 1] - ordered[:, 0])
    torch.testing.assert_close(entropy(log_p), plain_entropy(p))
    torch.testing.assert_close(entropy(log_p, "tsallis", 2.0), 1.0 - p.square().sum(-1))
    torch.testing.assert_close(entropy(log_p, "renyi", 2.0), -p.square().sum(-1).log())


def test_members_are_averaged_as_probabilities():
    log_p = log_probs(50, 6, 4)
    mean = log_p.exp().mean(1)
    torch.testing.assert_close(mixture(log_p).exp(), mean)
    torch.testing.assert_close(entropy(log_p), plain_entropy(mean))


def test_two_classes_are_ranked_alike_by_all_three():
    log_p = log_probs(40, 2)
    orders = [score(log_p).argsort() for score in (least_confidence, margin, entropy)]
    assert orders[0].equal(orders[1])
    assert orders[0].equal(orders[2])


def test_bald_is_the_entropy_of_the_mean_less_the_mean_entropy():
    log_p = log_probs(2000, 7, 5)
    p = log_p.exp()
    expected = plain_entropy(p.mean(1)) - plain_entropy(p).mean(1)
    torch.testing.assert_close(bald(log_p), expected, rtol=0.0, atol=1e-14)
    assert (bald(log_p) <= math.log(7)).all()


@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-5, 0.0])
def test_bald_keeps_its_digits_where_members_nearly_agree(spread):
    z = torch.randn(100, 1, 5, generator=torch.Generator().manual_seed(1), dtype=F64)
    z = z + spread * torch.randn(100, 4, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    p, mean = z.softmax(-1), z.softmax(-1).mean(1, keepdim=True)
    u = p / mean - 1.0
    series = (mean * (u.square() / 2 - u**3 / 6)).sum(-1).mean(-1)  # of (1 + u) log(1 + u) - u, for small u
    expected = series if spread < 0.05 else plain_entropy(p.mean(1)) - plain_entropy(p).mean(1)
    found = bald(z.log_softmax(-1))
    assert (found >= 0.0).all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-20)


def test_information_of_impossible_classes_and_certain_members():
    certain = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=F64).log()
    torch.testing.assert_close(mutual_information(certain), torch.tensor([math.log(2)], dtype=F64))
    same = certain[:, :1].expand(1, 3, 3)
    assert mutual_information(same).item() == 0.0


def test_expected_reduction_is_that_of_every_label_in_turn():
    log_p = log_probs(6, 4, 3)
    p = log_p.exp()
    before = plain_entropy(p.mean(1)).mean()
    for row in range(6):
        expected = 0.0
        for label in range(3):
            chance = p[row, :, label].mean()
            weights = p[row, :, label] / p[row, :, label].sum()
            expected += chance * plain_entropy((weights[:, None] * p).sum(1)).mean()
        assert expected_entropy_reduction(log_p)[row].item() == pytest.approx((before - expected).item(), abs=1e-12)
    assert (expected_entropy_reduction(log_p) >= -1e-12).all()  # a label never makes less certain, on average


def test_density_counts_rows_that_stand_for_many():
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
    weighted = density_weighted(torch.ones(4), embeddings)
    assert weighted.argmax() == 0
    assert weighted.argmin() == 3
    assert density_weighted(torch.arange(4.0), embeddings, beta=0.0).equal(torch.arange(4.0))


def test_ties_are_broken_by_the_stream_alone():
    score = torch.tensor([1.0, 3.0, 1.0, 3.0, 2.0])
    firsts = {tuple(top(score, 3, stream(seed)).tolist()) for seed in range(20)}
    assert firsts == {(1, 3, 4), (3, 1, 4)}
    assert top(score, 5, stream(3)).equal(top(score, 5, stream(3)))
    assert random(1000, stream()).mean().item() == pytest.approx(0.5, abs=0.05)


def joint_information(log_p, rows):
    p = log_p.exp()
    joint = 0.0
    for labels in itertools.product(range(p.shape[2]), repeat=len(rows)):
        chance = torch.stack([p[row, :, label] for row, label in zip(rows, labels, strict=True)]).prod(0).mean()
        joint -= torch.special.xlogy(chance, chance).item()
    return joint - sum(plain_entropy(p[row]).mean().item() for row in rows)


def test_batch_bald_counts_every_labelling_and_is_greedy():
    log_p = log_probs(9, 5, 3)
    rows, told = batch_bald(log_p, 4, stream())
    assert rows[0] == bald(log_p).argmax()
    for size in range(1, 5):
        assert told[size - 1].item() == pytest.approx(joint_information(log_p, rows[:size].tolist()), abs=1e-10)
    others = [joint_information(log_p, [*rows[:3].tolist(), row]) for row in range(9) if row not in rows[:3]]
    assert told[3].item() == pytest.approx(max(others), abs=1e-10)
    best = max(joint_information(log_p, pair) for pair in itertools.combinations(range(9), 2))
    assert told[1].item() >= (1.0 - 1.0 / math.e) * best - 1e-6


def test_batch_bald_leaves_alone_what_cannot_win(monkeypatch):
    log_p = log_probs(400, 4, 3)
    rows, told = batch_bald(log_p, 5, stream())
    monkeypatch.setattr(batches, "_LOOKED_AT", 400)  # look at all
    everything, expected = batch_bald(log_p, 5, stream())
    assert rows.tolist() == everything.tolist()
    torch.testing.assert_close(told, expected, rtol=0.0, atol=1e-12)


def test_batch_bald_takes_no_row_twice_that_tells_the_same():
    log_p = log_probs(6, 8, 2, scale=3.0)
    twins = torch.cat([log_p, log_p[bald(log_p).argmax()].expand(3, 8, 2)])
    rows, _ = batch_bald(twins, 3, stream())
    assert len({tuple(twins[row].flatten().tolist()) for row in rows}) == 3
    assert len(set(top(bald(twins), 3, stream()).tolist()) & {6, 7, 8}) >= 2  # what BALD alone would ask


def test_sampled_labellings_come_near_all_of_them():
    log_p = log_probs(12, 6, 4)
    rows, exact = batch_bald(log_p, 6, stream(), n_configurations=4**6)
    sampled_rows, sampled = batch_bald(log_p, 6, stream(), n_configurations=1024)
    assert sampled.tolist() == pytest.approx(exact.tolist(), abs=0.02)
    assert joint_information(log_p, sampled_rows.tolist()) > 0.98 * joint_information(log_p, rows.tolist())


def test_badge_is_k_means_plus_plus_over_written_out_gradients():
    log_p, h = log_probs(60, 3), torch.randn(60, 5, generator=torch.Generator().manual_seed(3), dtype=F64)
    p = log_p.exp()
    gradients = ((p - torch.nn.functional.one_hot(p.argmax(1), 3))[:, :, None] * h[:, None]).flatten(1)
    assert badge(log_p, h, 1, stream())[0] == gradients.norm(dim=1).argmax()
    seconds = torch.stack([badge(log_p, h, 2, stream(seed))[1] for seed in range(1000)])
    chances = (gradients - gradients[badge(log_p, h, 1, stream())[0]]).square().sum(1)
    chances = chances / chances.sum()
    found = torch.bincount(seconds, minlength=60) / 1000
    assert (found - chances).abs().max() < 5 * (chances.max() / 1000) ** 0.5
    assert len(set(badge(log_p, h, 60, stream()).tolist())) == 60


def test_badge_takes_others_where_all_gradients_are_alike():
    rows = badge(log_probs(1, 3).expand(5, 3), torch.ones(5, 2), 5, stream())
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]


def test_k_center_leaves_nothing_far():
    corners = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [0.0, 4.0], [5.0, 0.1]])
    assert k_center(corners, 2, labelled=corners[:1]).tolist() == [4, 3]
    assert sorted(k_center(corners, 5).tolist()) == [0, 1, 2, 3, 4]
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(4))
    rows = k_center(x, 20)
    covered = torch.cdist(x, x[rows]).amin(1).max()
    some = torch.stack([torch.cdist(x, x[torch.randperm(200)[:20]]).amin(1).max() for _ in range(20)])
    assert covered < some.min()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bald(log_probs(5, 3)), "bald: expected .* members or samples of dropout, got"),
        (lambda: bald(log_probs(5, 1, 3)), "K >= 2"),
        (lambda: expected_entropy_reduction(log_probs(5, 3)), "n_members or mc_samples"),
        (lambda: entropy(log_probs(5, 3), "gini"), "expected shannon, tsallis or renyi, got 'gini'"),
        (lambda: mixture(torch.zeros(3)), "expected .N, C. or .N, K, C."),
        (lambda: top(torch.zeros(3), 4, stream()), "expected at most the 3 rows of the pool to be asked for, got 4"),
        (lambda: top(torch.tensor([1.0, math.nan]), 1, stream()), "got NaN in row 1"),
        (lambda: batch_bald(log_probs(5, 2, 3), 6, stream()), "expected at most the 5 rows"),
        (
            lambda: badge(log_probs(5, 3), torch.zeros(4, 2), 1, stream()),
            "expected one row per row of log_p, got 4 for 5",
        ),
        (lambda: density_weighted(torch.zeros(5), torch.zeros(4, 2)), "expected one row per score"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(ConfigError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_bald_is_finite_where_all_members_have_next_to_nothing():
    log_p = torch.tensor([[[0.0, -750.0, -torch.inf], [0.0, -760.0, -torch.inf]]], dtype=F64)
    assert bald(log_p).item() == 0.0
    assert bald(log_p.float()).item() == 0.0
