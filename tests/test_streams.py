"""Streams against published Philox vectors, and the independence that makes a run alone equal a run in a batch."""

import hashlib

import pytest
import torch
from scipy import stats

from entropic_rl.streams import Stream, philox_4x32

DRAWS = {
    "bits": lambda s: s.bits(5, 3),
    "uniform": lambda s: s.uniform(7),
    "normal": lambda s: s.normal(2, 4),
    "gumbel": lambda s: s.gumbel(6),
    "permutation": lambda s: s.permutation(9),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, words):
    counter, key, words = (torch.tensor([int(word, 16) for word in text.split()]) for text in (counter, key, words))
    assert philox_4x32(counter, key).tolist() == words.tolist()


def test_philox_broadcasts_counters_against_keys():
    counters, keys = torch.arange(12).view(3, 1, 4), torch.arange(10).view(5, 2)
    together = philox_4x32(counters, keys)
    assert together.shape == (3, 5, 4)
    assert torch.equal(together[2, 4], philox_4x32(counters[2, 0], keys[4]))


@every_draw
def test_run_alone_draws_what_it_draws_in_a_batch(draw):
    batch, alone = Stream([3, 2**64 - 1, 5], "action"), Stream([2**64 - 1], "action")
    for _ in range(3):
        assert torch.equal(draw(batch)[1], draw(alone)[0])


@every_draw
def test_seed_name_and_draw_each_change_the_numbers(draw):
    stream = Stream([1, 2], "action")
    first, second = draw(stream), draw(stream)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw(Stream([1, 2], "minibatch")))


def test_high_and_low_word_of_a_seed_both_count():
    seeds = [1, 2**32, 2**32 + 1, 0]
    assert len({tuple(row) for row in Stream(seeds, "action").bits(4).tolist()}) == 4


@every_draw
def test_position_is_the_whole_state(draw):
    stream = Stream([7, 8], "action")
    for _ in range(5):
        draw(stream)
    resumed = Stream([7, 8], "action")
    resumed.position = stream.position
    assert torch.equal(draw(stream), draw(resumed))


def test_position_beyond_32_bits_does_not_repeat():
    here, there = Stream([7], "action"), Stream([7], "action")
    here.position, there.position = 5, 5 + 2**32
    assert not torch.equal(here.bits(4), there.bits(4))


def test_words_are_philox_of_block_draw_and_name_under_the_seed():
    stream = Stream([3 + 5 * 2**32], "action")
    stream.position = 7 + 9 * 2**32
    name = int.from_bytes(hashlib.sha256(b"action").digest()[:4], "big")
    words = [philox_4x32(torch.tensor([block, 7, 9, name]), torch.tensor([3, 5])) for block in (0, 1)]
    assert stream.bits(6).tolist() == [torch.cat(words)[:6].tolist()]


def test_draw_is_one_step_whatever_its_shape():
    wide, narrow = Stream([7], "action"), Stream([7], "action")
    wide.bits(1000)
    narrow.bits(1)
    assert wide.position == narrow.position == 1
    assert torch.equal(wide.bits(3), narrow.bits(3))


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 3)], ids=str)
def test_draws_ahead_are_those_that_come(shape):
    stream = Stream([7, 2**64 - 1], "action")
    stream.uniform(9)
    ahead = stream.ahead(5, *shape)
    assert ahead.shape == (2, 5, *shape)
    assert torch.equal(ahead, torch.stack([stream.uniform(*shape) for _ in range(5)], 1))


def test_looking_ahead_advances_nothing():
    looked, other = Stream([7, 8], "action"), Stream([7, 8], "action")
    looked.ahead(10, 3)
    assert looked.position == 0
    assert torch.equal(looked.uniform(4), other.uniform(4))


def test_rows_look_ahead_from_positions_of_their_own():
    stream = Stream([7, 8, 9], "action")
    stream.position = torch.tensor([0, 70, 2**32 - 2])  # the last one crosses into the high word
    ahead = stream.ahead(4, 3)
    for row, (seed, position) in enumerate([(7, 0), (8, 70), (9, 2**32 - 2)]):
        alone = Stream([seed], "action")
        alone.position = position
        assert torch.equal(ahead[row], torch.stack([alone.uniform(3)[0] for _ in range(4)]))


def test_rows_draw_from_positions_of_their_own_and_advance_together():
    stream = Stream([7, 8], "action")
    stream.position = torch.tensor([5, 2])
    ahead = stream.ahead(3, 4)
    assert torch.equal(torch.stack([stream.uniform(4) for _ in range(3)], 1), ahead)
    assert stream.position.tolist() == [8, 5]


def test_looking_ahead_leaves_the_tensor_of_positions_alone():
    stream, position = Stream([7, 8], "action"), torch.tensor([5, 2])
    stream.position = position
    stream.ahead(3, 4)
    assert position.tolist() == [5, 2]


def test_draws_leave_the_tensor_that_was_set_as_position_alone():
    stream, position = Stream([7, 8], "action"), torch.tensor([5, 2])
    stream.position = position
    stream.uniform(4)
    assert stream.position.tolist() == [6, 3]
    assert position.tolist() == [5, 2]


def test_no_draws_ahead_are_an_empty_tensor():
    assert Stream([7, 8], "action").ahead(0, 3).shape == (2, 0, 3)


def test_draws_ahead_of_no_numbers_are_an_empty_tensor():
    assert Stream([7, 8], "action").ahead(4, 0).shape == (2, 4, 0)


def test_shape_only_folds_the_same_words():
    flat, folded = Stream([7], "action").bits(24), Stream([7], "action").bits(2, 3, 4)
    assert torch.equal(flat.view(1, 2, 3, 4), folded)


def test_words_are_32_bits_and_every_bit_is_fair():
    words = Stream([0], "test").bits(20_000)
    assert words.min() >= 0
    assert words.max() < 2**32
    share = torch.stack([(words >> i) & 1 for i in range(32)]).double().mean((1, 2))
    assert ((share - 0.5).abs() < 5 * 0.5 / 20_000**0.5).all()


@pytest.mark.parametrize(
    ("draw", "law"), [("uniform", stats.uniform), ("normal", stats.norm), ("gumbel", stats.gumbel_r)]
)
def test_draws_have_their_law(draw, law):
    # Four seeds, 5,000 numbers each; fixed seeds, so the threshold only has to be unlikely once.
    draws = getattr(Stream([0, 1, 2**63, 12345], "test"), draw)(5_000)
    assert draws.dtype == torch.float64
    assert min(stats.kstest(row, law.cdf).pvalue for row in draws.numpy()) > 1e-3
    assert draws.mean().item() == pytest.approx(law.mean(), abs=5 * law.std() / 20_000**0.5)


def test_neighbouring_seeds_names_and_draws_are_uncorrelated():
    stream, other = Stream([0, 1], "test"), Stream([0, 1], "tesu")
    samples = torch.cat([stream.normal(20_000), stream.normal(20_000), other.normal(20_000)])
    correlation = torch.corrcoef(samples) - torch.eye(6)
    assert correlation.abs().max() < 5 / 20_000**0.5


def test_extreme_words_stay_inside_the_open_interval():
    class Extreme(Stream):
        def bits(self, *shape):
            return torch.tensor([[0, 2**32 - 1]])

    stream = Extreme([0], "test")
    assert ((stream.uniform() > 0) & (stream.uniform() < 1)).all()
    assert stream.normal().abs().max() < 6.4
    assert stream.gumbel().isfinite().all()


def test_permutation_is_one_and_every_place_is_equally_likely():
    orders = Stream(range(3000), "test").permutation(4)
    assert torch.equal(orders.sort(-1).values, torch.arange(4).expand(3000, 4))
    counts = torch.stack([torch.bincount(orders[:, i], minlength=4) for i in range(4)])
    assert stats.chisquare(counts.flatten()).pvalue > 1e-3


def test_permutations_at_once_are_those_one_by_one():
    one_by_one, at_once = Stream([3, 8], "test"), Stream([3, 8], "test")
    expected = torch.stack([one_by_one.permutation(37) for _ in range(5)], 1)
    assert torch.equal(at_once.permutations(5, 37), expected)
    assert torch.equal(at_once.permutation(37), one_by_one.permutation(37))


def test_a_permutation_sorts_words_and_leaves_equal_ones_in_order():
    words = torch.tensor([[[7, 2**32 - 1, 0, 7, 2**32 - 1, 7, 0]]])
    stream = Stream([0], "test")
    stream.generate = lambda *_: words
    assert (
        stream.permutation(7).tolist() == words[:, 0].argsort(dim=-1, stable=True).tolist() == [[2, 6, 0, 3, 5, 1, 4]]
    )


def test_seeds_for_gymnasium_are_distinct_31_bit_integers_per_run():
    seeds = Stream([4, 5], "env").seeds(50)
    assert [len(row) for row in seeds] == [50, 50]
    assert len({*seeds[0], *seeds[1]}) == 100
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for row in seeds for seed in row)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=rf"integer in \[0, 2\^64\), got {seed}"):
        Stream([0, seed], "action")
