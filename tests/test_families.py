"""Entropy families as people write them, and what is refused in one line."""

import math
from types import SimpleNamespace

import pytest
from gymnasium import spaces

from entropic_rl.errors import ConfigError
from entropic_rl.families import (
    MAX_LOG_STD,
    EntropyFamily,
    check_entropy,
    default_target,
    highest_entropy,
)
from entropic_rl.spaces import action_spec

CHOICE = action_spec(spaces.Discrete(4))
CHOICES = action_spec(spaces.MultiDiscrete([2, 3]))
BITS = action_spec(spaces.MultiBinary(3))
GAUSSIAN = action_spec(spaces.Box(-1.0, 1.0, (2,)))
SQUASHED = action_spec(spaces.Box(-1.0, 1.0, (2,)), squash_output=True)
ALL = {"categorical": CHOICE, "multi-discrete": CHOICES, "bernoulli": BITS, "gaussian": GAUSSIAN, "tanh": SQUASHED}


def check(action, **settings):
    defaults = {"entropy": "shannon", "ent_coef": 0.1, "entropy_in": "loss", "ent_coef_unit": "auto"}
    check_entropy(SimpleNamespace(**{**defaults, **settings}), action)


def refusal(action, **settings):
    with pytest.raises(ConfigError) as caught:
        check(action, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("shannon", EntropyFamily("shannon")),
        ("kl-to-uniform", EntropyFamily("kl-to-uniform")),
        ("tsallis:1.5", EntropyFamily("tsallis", order=1.5)),
        ("renyi:0.5", EntropyFamily("renyi", order=0.5)),
        ("renyi:inf", EntropyFamily("renyi", order=math.inf)),
        ("kl-to-prior:0.7,0.3", EntropyFamily("kl-to-prior", prior=(0.7, 0.3))),
        ("kl-to-prior:2", EntropyFamily("kl-to-prior", prior=(2.0,))),
    ],
)
def test_text_of_a_family_is_read_and_reads_back(text, family):
    assert EntropyFamily.parse(text) == family
    assert str(family) == text


@pytest.mark.parametrize(
    "family", [EntropyFamily("tsallis", order=1.23456789), EntropyFamily("kl-to-prior", prior=(0.123456789, 1 / 3))]
)
def test_text_of_a_family_keeps_every_digit(family):
    assert EntropyFamily.parse(str(family)) == family


@pytest.mark.parametrize(
    "text", ["", "entropy", "Shannon", "shannon:1", "kl-to-uniform:2", "tsallis", "renyi", "kl-to-prior", ":1"]
)
def test_text_that_is_no_family_is_told_all_families(text):
    with pytest.raises(
        ValueError, match="expected shannon, tsallis:Q, renyi:ALPHA, kl-to-uniform or kl-to-prior"
    ) as caught:
        EntropyFamily.parse(text)
    assert str(caught.value).endswith(f"got {text!r}")


@pytest.mark.parametrize(
    "text",
    ["tsallis:0", "tsallis:-1", "tsallis:inf", "tsallis:nan", "tsallis:two", "tsallis:", "renyi:0", "renyi:-inf"],
)
def test_order_out_of_range_is_refused(text):
    with pytest.raises(ValueError, match=rf"with X > 0 \(1 is Shannon's entropy\), got {text}$"):
        EntropyFamily.parse(text)


@pytest.mark.parametrize(
    "text",
    ["kl-to-prior:", "kl-to-prior:0,1", "kl-to-prior:1,,2", "kl-to-prior:-1", "kl-to-prior:inf", "kl-to-prior:a"],
)
def test_prior_out_of_range_is_refused(text):
    with pytest.raises(ValueError, match=f"with numbers > 0, got {text}$"):
        EntropyFamily.parse(text)


def test_order_one_is_shannon():
    assert [EntropyFamily.parse(text).is_shannon for text in ("shannon", "tsallis:1", "renyi:1.0")] == [True] * 3
    assert not any(EntropyFamily.parse(text).is_shannon for text in ("tsallis:1.1", "kl-to-uniform", "kl-to-prior:1"))


def test_divergences_are_those_to_something():
    assert [EntropyFamily.parse(t).is_divergence for t in ("kl-to-uniform", "kl-to-prior:1", "shannon", "renyi:2")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_default_target_is_half_the_maximum_or_minus_one_per_dimension():
    expected = {
        "categorical": math.log(4) / 2,
        "multi-discrete": (math.log(2) + math.log(3)) / 2,
        "bernoulli": 3 * math.log(2) / 2,
        "gaussian": -2.0,
        "tanh": -2.0,
    }
    assert {name: default_target(action) for name, action in ALL.items()} == pytest.approx(expected)


def test_highest_entropy_is_that_of_the_uniform_policy_or_the_widest_gaussian():
    expected = {
        "categorical": math.log(4),
        "multi-discrete": math.log(6),
        "bernoulli": math.log(8),
        "gaussian": 2 * (MAX_LOG_STD + 0.5 * math.log(2 * math.pi * math.e)),
        "tanh": 2 * math.log(2),
    }
    assert {name: highest_entropy(action) for name, action in ALL.items()} == pytest.approx(expected)


@pytest.mark.parametrize("action", ALL.values(), ids=ALL)
def test_default_target_can_be_reached(action):
    assert default_target(action) < highest_entropy(action)
    check(action, ent_coef="auto")


@pytest.mark.parametrize("action", ALL.values(), ids=ALL)
@pytest.mark.parametrize("family", ["shannon", "tsallis:2", "renyi:0.5"])
def test_every_action_has_every_entropy(action, family):
    check(action, entropy=family)


@pytest.mark.parametrize("action", ALL.values(), ids=ALL)
def test_target_that_no_policy_reaches_states_the_maximum(action):
    highest = highest_entropy(action)
    check(action, ent_coef=f"target:{highest - 1e-3}")
    message = refusal(action, ent_coef=f"target:{highest + 1e-3}")
    assert message.startswith("ent_coef: the target entropy has to be ")
    assert f"below {highest:.4g} nats, the maximum for these actions, got {highest + 1e-3:g}" in message


def test_target_entropy_of_a_choice_is_positive_and_that_of_a_box_need_not_be():
    assert "has to be > 0 and below 1.386 nats" in refusal(CHOICE, ent_coef="target:0")
    assert "got -1" in refusal(CHOICE, ent_coef="target:-1")
    check(SQUASHED, ent_coef="target:-5")
    assert "has to be below 1.386 nats" in refusal(SQUASHED, ent_coef="target:2")


def test_target_divergence_is_positive():
    check(CHOICE, entropy="kl-to-uniform", ent_coef="target:0.3")
    assert "the target divergence has to be > 0 and below 1.386 nats" in refusal(
        CHOICE, entropy="kl-to-uniform", ent_coef="target:1.5"
    )
    check(SQUASHED, entropy="kl-to-uniform", ent_coef="target:3")
    assert refusal(SQUASHED, entropy="kl-to-uniform", ent_coef="target:0").endswith(
        "the target divergence has to be > 0 nats, got 0"
    )
    check(CHOICE, entropy="kl-to-prior:1,2,3,4", ent_coef="target:2")


def test_auto_is_no_target_of_a_divergence():
    assert refusal(CHOICE, entropy="kl-to-uniform", ent_coef="auto:0.1").endswith(
        "auto aims at an entropy, and kl-to-uniform is a divergence; give it as target:NATS"
    )


def test_divergence_from_the_uniform_distribution_needs_bounds():
    assert refusal(GAUSSIAN, entropy="kl-to-uniform").endswith("add --squash-output")
    check(SQUASHED, entropy="kl-to-uniform")


@pytest.mark.parametrize("action", [GAUSSIAN, SQUASHED], ids=["gaussian", "tanh"])
def test_prior_of_box_actions_has_one_width_or_one_per_dimension(action):
    check(action, entropy="kl-to-prior:0.5")
    check(action, entropy="kl-to-prior:0.5,1")
    assert refusal(action, entropy="kl-to-prior:1,2,3").endswith("expected 1 or 2 standard deviations, got 3")


def test_prior_of_a_choice_has_one_weight_per_action():
    check(CHOICE, entropy="kl-to-prior:1,2,3,4")
    for text in ("1", "1,2", "1,2,3,4,5"):
        assert refusal(CHOICE, entropy=f"kl-to-prior:{text}").endswith(
            f"expected 4 weights, one per action, got {text.count(',') + 1}"
        )


@pytest.mark.parametrize("action", [CHOICES, BITS], ids=["multi-discrete", "bernoulli"])
def test_several_choices_have_no_prior(action):
    assert f"needs Discrete or Box actions, got {action.kind} ones" in refusal(action, entropy="kl-to-prior:1,1,1,1,1")


@pytest.mark.parametrize("place", ["reward", "both"])
def test_entropy_in_the_reward_is_in_its_units(place):
    assert refusal(CHOICE, entropy_in=place, ent_coef_unit="advantage").endswith("use --ent-coef-unit reward")
    check(CHOICE, entropy_in=place, ent_coef_unit="reward")
    check(CHOICE, entropy_in=place, ent_coef_unit="auto")
    check(CHOICE, entropy_in="loss", ent_coef_unit="advantage")


def test_min_entropy_of_squashed_actions_is_refused():
    config = SimpleNamespace(entropy="renyi:inf", ent_coef=0.1, entropy_in="loss", ent_coef_unit="auto")
    squashed = action_spec(spaces.Box(-1.0, 1.0, (2,)), squash_output=True)
    with pytest.raises(ConfigError, match="renyi:inf has no form for squashed actions"):
        check_entropy(config, squashed)
