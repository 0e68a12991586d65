"""What a comparison says in words is what its numbers bear out."""

import json
import math
import re
from collections.abc import Mapping
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from entropic_rl.compare.analysis import analyse, to_json
from entropic_rl.compare.grid import make_plan
from entropic_rl.compare.statistics import Estimate
from entropic_rl.compare.verdict import caveats, costs, verdict
from entropic_rl.compare.words import interval, number, p_value, steps
from entropic_rl.run_directory import strict
from tests.synthetic import (
    SESSION,
    compared,
    numbers_of,
    outcome_of,
    row,
    section_of,
    write_failure,
    write_plan,
    write_run,
)

for_any_record = pytest.mark.parametrize("seed", range(40))
nan = math.nan


def text_of(section):
    return " ".join(verdict(section))


def notes_of(out, scores, **options):
    report = compared(out, scores, **options)
    [section] = report.sections
    return caveats(section, report.of(section))


# Random records


@cache
def record(seed):
    """A section and its outcomes: one to four coefficients, one to seven seeds, broken runs, ties, huge numbers."""
    rng = np.random.default_rng(seed)
    coefs = rng.permutation([0.0, 0.001, 0.1, 3.0])[: rng.integers(1, 5)].tolist()
    n_seeds = int(rng.integers(1, 8))
    plan = make_plan(["ppo"], {"env": "CartPole-v1", "ent_coef": coefs}, n_seeds=n_seeds, preset_choice="none")
    scale = rng.choice([0.0, 1e-4, 1.0, 1e7])
    largest = rng.choice([math.log(2), None])
    threshold = rng.choice([None, 1.0, -1e6])
    exact, noise = rng.random() < 0.5, rng.choice([0.0, 0.1, 1.0])
    outcomes = []
    for cell in plan.cells(Path("/nowhere")):
        error = "killed" if outcomes and rng.random() < 0.1 else None
        score = float(scale * (np.log10(cell.config.ent_coef + 1e-4) + noise * rng.standard_normal()))
        score = round(score) if scale == 1.0 else score  # many ties
        entropy = float(rng.choice([0.0, 0.01, 0.3, 0.68, math.log(2)]))
        rows = [row(step, score + rng.integers(-2, 3), entropy=entropy, temperature=0.1) for step in (90, 400)]
        found = {"n_states": float(rng.integers(1, 40)), "max_entropy": largest, "success_return": threshold}
        found["first_success"] = rng.choice([nan, 1.0, 123456.0])
        found |= {"kl": entropy / 3, "loss_only_kl": entropy / 7} if exact else {}
        outcomes.append(outcome_of(plan, cell, score, rows=rows, error=error, **found))
    groups = {}
    for outcome in outcomes:
        groups.setdefault(outcome.group, []).append(outcome)
    return analyse("CartPole-v1", groups, plan.varying, threshold=None, baseline=None), outcomes


_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?[kM%]?|(?<![\w.])-?\.\d+")


def numbers_in(text):
    return [found.rstrip(",") for found in _NUMBER.findall(text)]


def known_numbers(section):
    """Every number of a section as any of the ways in which it may be written."""

    def leaves(content):
        if isinstance(content, Mapping):
            return [leaf for value in content.values() for leaf in leaves(value)]
        if isinstance(content, list | tuple):
            return [leaf for value in content for leaf in leaves(value)]
        return [float(content)] if isinstance(content, int | float) else []

    values = leaves(strict(to_json(section)))
    if section.max_entropy:
        values += [group.measures["entropy"].value / section.max_entropy for group in section.groups]
    values += [abs(value) for value in values]
    n_seeds = [len(group.outcomes) for group in section.groups]
    counts = [*range(max(n_seeds) + 1), len(section.groups) - 1, len(section.groups)]
    forms = (number, steps, p_value, lambda x: f"{x:.0%}")
    known = {form(value) for value in values for form in forms} | {str(count) for count in counts}
    known |= {number(value, 2) for value in values if abs(value) < 99}  # nats to an optimum
    known |= {f"{2.0 ** (1 - n):.2g}" for n in n_seeds}  # the least p-value that so many seeds allow
    known |= {"5", "2", "95", "100"}  # "within 5 % of uniform", "95 %"
    return {word.lstrip("<").strip() for word in known} | {"-.001", ".001"}


@for_any_record
def test_every_number_in_a_sentence_is_a_number_of_the_analysis(seed):
    section, _ = record(seed)
    known = known_numbers(section)
    for sentence in verdict(section):
        told = sentence
        for group in sorted(section.groups, key=lambda group: -len(group.name)):
            told = re.sub(rf"(?<![\w.,]){re.escape(group.name)}(?![\w.,]*\d)", "GROUP", told)
        unknown = [found for found in numbers_in(told) if found not in known]
        assert not unknown, (sentence, unknown)


@for_any_record
def test_nothing_that_is_no_number_is_told(seed):
    section, outcomes = record(seed)
    for sentence in [*verdict(section), *caveats(section, outcomes)]:
        assert not re.search(r"\b(nan|inf|None|infinity)\b|\[\]|\(\)|  ", sentence), sentence
        assert sentence.endswith(".")


@for_any_record
def test_first_sentence_names_the_group_with_the_highest_score(seed):
    section, _ = record(seed)
    first = verdict(section)[0]
    scores = {group.name: group.score for group in section.groups}
    assert scores[section.best].value == max(score.value for score in scores.values())
    assert interval(scores[section.best]) in first
    if len(set(scores.values())) > 1:
        assert section.best in first


@for_any_record
def test_no_other_is_met_only_where_no_interval_meets_that_of_the_best(seed):
    section, _ = record(seed)
    best = section.group(section.best).score
    others = [group.score for group in section.groups if group.name != section.best]
    comparable = others and not any(math.isnan(score.low) for score in (best, *others))  # one seed has no interval
    apart = comparable and not any(meet(best, other) for other in others)
    assert ("meets no other" in verdict(section)[0]) == bool(apart)


def meet(a, b):
    (a_low, a_high), (b_low, b_high) = ((min(e.low, e.value), max(e.high, e.value)) for e in (a, b))
    slack = 1e-9 * max(map(abs, (a_low, a_high, b_low, b_high)))
    return a_low <= b_high + slack and b_low <= a_high + slack


@for_any_record
def test_differences_are_claimed_exactly_where_the_adjusted_p_value_is_below_5_per_cent(seed):
    section, _ = record(seed)
    told = text_of(section)
    significant = [group for group in section.groups if group.p_value < 0.05]
    assert len(re.findall(r"\(p [<.]", told)) == len(significant)
    for group in significant:
        assert f"(p {p_value(group.p_value)})" in told
        assert number(abs(group.difference.value)) in told


@for_any_record
def test_uniform_and_settled_policies_are_named_exactly_where_the_entropy_says_so(seed):
    section, _ = record(seed)
    told = text_of(section)
    shares = [g.measures["entropy"].value / section.max_entropy for g in section.groups if section.max_entropy]
    assert ("within 5 % of uniform" in told) == any(share >= 0.95 for share in shares)
    assert ("nearly deterministic" in told) == any(share <= 0.02 for share in shares)


# One fact each


def test_significant_differences_say_their_direction_and_size(tmp_path):
    scores = {0.0: [float(i) for i in range(8)], 0.1: [i - 2.0 for i in range(8)], 0.2: [i + 3.0 for i in range(8)]}
    section = section_of(tmp_path, scores)  # all differences of one sign: p = 2 / 256, times two
    told = text_of(section)
    assert re.search(r"0\.1 loses 2 \(p \.016\)", told)
    assert re.search(r"0\.2 gains 3 \(p \.016\)", told)


def test_share_of_seeds_that_learned_and_of_those_that_failed_is_told(tmp_path):
    def write(cell, score):
        write_run(cell, score, rows=[row(400, score), row(1000, score)], success_return=10.0)

    section = section_of(tmp_path, {0.0: [1.0, 2.0, 3.0], 0.1: [10.0, 11.0, 9.0]}, write=write)
    told = text_of(section)
    assert re.search(r"0\.1 reached 10 first\D* 400\b.* 2 of 3 seeds", told)
    assert re.search(r"below 10\D* 0\b\D*3 of 3\D* 0\.1\D*1 of 3", told)


def test_group_that_reached_the_threshold_first_is_told(tmp_path):
    def write(cell, score):
        write_run(cell, score, rows=[row(400 if cell.config.ent_coef else 300, score), row(1000, score)])

    told = text_of(section_of(tmp_path, {0.1: [10.0, 11.0], 0.0: [10.0, 11.0]}, write=write, threshold=10.0))
    assert re.search(r"\b0 reached 10 first\D* 300\b.* 2 of 2 seeds", told)


def test_threshold_that_no_group_reaches_is_told(tmp_path):
    told = text_of(section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [1.0, 2.0]}, threshold=400.0))
    assert re.search(r"\b[Nn]o\b[^.]* 400", told)
    assert "first, after" not in told


def test_groups_in_which_all_succeeded_are_not_enumerated(tmp_path):
    run = {"first_success": 300.0, "success_return": 0.5}
    assert "successful" not in text_of(section_of(tmp_path / "all", {0.0: [1.0, 2.0], 0.1: [1.0, 2.0]}, run=run))
    none = text_of(section_of(tmp_path / "none", {0.0: [1.0, 2.0]}, run=run | {"first_success": nan}))
    assert "No run had a successful episode" in none


def test_share_of_seeds_that_met_a_success_is_told_where_some_did_not(tmp_path):
    def write(cell, score):
        first = 300.0 if cell.config.ent_coef and cell.run.seed else nan
        write_run(cell, score, first_success=first, success_return=0.5)

    told = text_of(section_of(tmp_path, {0.0: [1.0, 2.0, 1.0], 0.1: [1.0, 2.0, 1.0]}, write=write))
    assert re.search(r"successful episode\D* 0\b\D*[03] of 3\D* 0\.1\D*[12] of 3", told)


def test_most_and_fewest_states_are_told_with_their_intervals(tmp_path):
    def write(cell, score):
        write_run(cell, score, n_states=10.0 + 100.0 * cell.config.ent_coef + cell.run.seed)

    told = text_of(section_of(tmp_path, {0.0: [1.0] * 3, 0.1: [1.0] * 3, 0.2: [1.0] * 3}, write=write))
    assert re.search(r"0\.2 met the most states, 31 \[30, 32\], 0 the fewest, 11 \[10, 12\]", told)


@pytest.mark.parametrize(
    ("shares", "rises"),
    [
        ((0.1, 0.2, 0.3), True),
        ((0.3, 0.2, 0.1), False),
        ((0.1, 0.3, 0.2), False),
        ((0.1, 0.1, 0.1), False),
        ((0.1, 0.1, 0.2), False),
    ],
)
def test_entropy_rises_with_every_step_only_where_it_does(tmp_path, shares, rises):
    by_coef = dict(zip((0.0, 0.1, 0.2), shares, strict=True))

    def write(cell, score):
        write_run(cell, score, entropy=by_coef[cell.config.ent_coef] * math.log(2))

    told = text_of(section_of(tmp_path, {coef: [1.0, 1.0] for coef in by_coef}, write=write))
    assert ("rises with every step" in told) == rises
    assert all(f"{by_coef[coef]:.0%}" in told for coef in (0.0, 0.2))


def test_nothing_is_told_of_uniform_policies_where_actions_are_continuous(tmp_path):
    assert "uniform" not in text_of(section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [1.0, 2.0]}, run={"max_entropy": None}))


def test_distance_to_the_exact_policies_is_told_where_it_was_measured(tmp_path):
    run = {"kl": 0.25, "loss_only_kl": 0.125}
    told = text_of(section_of(tmp_path / "with", {0.1: [1.0, 2.0]}, run=run))
    assert number(0.25, 2) in told
    assert number(0.125, 2) in told
    assert "optimum" not in text_of(section_of(tmp_path / "without", {0.1: [1.0, 2.0]}))


@pytest.mark.parametrize("missing", ["kl", "loss_only_kl"])
def test_distance_that_was_not_finite_is_not_told(tmp_path, missing):
    """A temperature near 0 leaves one of them infinite, which is not recorded, and the other finite."""
    run = {"kl": 0.25, "loss_only_kl": 0.125, missing: ...}
    assert number({"kl": 0.25, "loss_only_kl": 0.125}[missing], 2) not in text_of(
        section_of(tmp_path, {0.1: [1.0, 2.0]}, run=run)
    )


def test_one_seed_is_told_apart_from_nothing(tmp_path):
    said = verdict(section_of(tmp_path, {0.0: [1.0], 0.1: [5.0]}, run={"n_states": 3.0}))
    assert "meets no other" not in said[0]


def test_states_met_by_one_seed_have_no_intervals_that_meet(tmp_path):
    def write(cell, score):
        write_run(cell, score, n_states=3.0 + 10 * cell.config.ent_coef)

    assert "intervals meet" not in text_of(section_of(tmp_path, {0.0: [1.0], 0.1: [5.0]}, write=write))


def test_one_group_is_compared_with_nothing(tmp_path):
    assert "differs" not in text_of(section_of(tmp_path, {0.1: [1.0, 2.0, 3.0]}))


# What a reader has to know


def test_runs_that_do_not_count_are_counted_and_named_with_their_reasons(tmp_path):
    plan = write_plan(tmp_path, 2)
    first, second, third, _ = plan.cells(tmp_path)
    write_run(first, 1.0)
    write_failure(second, "killed by signal 9")
    write_run(third, nan)
    [note, *_] = notes_from(plan, tmp_path)
    assert note.startswith("3 of 4 runs")
    for words in (
        "ent_coef_0__seed_1 (killed by signal 9)",
        "ent_coef_0.1__seed_0 (diverged",
        "seed_1 (not trained yet)",
    ):
        assert words in note


def notes_from(plan, out):

    report = numbers_of(plan, out)
    return caveats(report.sections[0], report.outcomes)


def test_many_runs_that_do_not_count_are_not_all_named(tmp_path):
    note = notes_of(tmp_path, {0.0: [1.0] + [None] * 11})[0]
    assert note.startswith("11 of 12 runs")
    assert note.count("not trained yet") == 8
    assert "3 more" in note


@pytest.mark.parametrize(("n_seeds", "told"), [(1, "one seed"), (2, "2 seeds"), (7, "7 seeds"), (8, None), (12, None)])
def test_few_seeds_are_told(tmp_path, n_seeds, told):
    notes = [note for note in notes_of(tmp_path, {0.0: [1.0] * n_seeds}) if "seed" in note]
    assert len(notes) == (told is not None)
    assert told is None or told in notes[0]


def test_smallest_group_decides_what_is_told_of_seeds(tmp_path):
    assert any("With 3 seeds" in note for note in notes_of(tmp_path, {0.0: [1.0] * 8, 0.1: [1.0] * 3 + [None] * 5}))


def test_environment_without_a_success_signal_is_told_unless_a_threshold_is_given(tmp_path):
    scores = {0.0: [1.0, 2.0]}
    assert any("success signal" in note for note in notes_of(tmp_path / "without", scores))
    assert not any("success signal" in note for note in notes_of(tmp_path / "with", scores, threshold=1.0))


def test_factor_by_which_the_effective_temperature_moved_is_told(tmp_path):
    rows = [row(100 * (i + 1), 1.0, temperature=t, **{"train/ent_coef": 0.1}) for i, t in enumerate((0.2, 0.0, 0.05))]
    write = partial(write_run, rows=rows)
    assert any("factor of up to 4 " in note for note in notes_of(tmp_path, {0.1: [1.0, 2.0]}, write=write))


def test_schedule_is_not_taken_for_drift(tmp_path):
    """Advantages keep their standard deviation 0.5 while the coefficient falls a hundredfold."""
    rows = [row(100 * (i + 1), 1.0, temperature=0.5 * c, **{"train/ent_coef": c}) for i, c in enumerate((0.1, 0.001))]
    write = partial(write_run, rows=rows)
    notes = notes_of(tmp_path, {"linear:0.1:0.001": [1.0, 2.0]}, write=write)
    assert not any("factor of up to 100 " in note for note in notes)


def test_diverged_runs_are_not_in_the_factor(tmp_path):
    def write(cell, score):
        low = 2e-4 if math.isnan(score) else 0.2
        temperatures, coef = (0.4, low), {"train/ent_coef": 0.1}
        write_run(
            cell, score, rows=[row(100 * (i + 1), 1.0, temperature=t, **coef) for i, t in enumerate(temperatures)]
        )

    notes = notes_of(tmp_path, {0.1: [1.0, 2.0, nan]}, write=write)
    assert any("factor of up to 2 " in note for note in notes)


def test_coefficients_in_different_units_are_told(tmp_path):
    plan = write_plan(tmp_path, 2, agents=("ppo", "a2c"))  # PPO normalises advantages, A2C does not
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0)
    assert any("different units" in note for note in notes_from(plan, tmp_path))


def test_coefficients_in_reward_units_need_no_word(tmp_path):
    assert not any("dvantage" in note for note in notes_of(tmp_path, {0.1: [1.0, 2.0]}, normalize_advantage=False))


def test_costs_are_summed_over_sessions():
    told = costs([SESSION, SESSION | {"seconds": 30.0, "n_cells": 1, "env_steps": 2000}])
    for words in ("2 min 0 s", "5 runs", "6k", "50 per second", "2 processes", "768 MiB", "1.00 GiB"):
        assert words in told


def test_costs_without_a_measured_peak_do_not_speak_of_memory():
    assert "memory" not in costs([SESSION | {"memory_peak": None}])
    assert costs([]) == ""


def test_verdict_is_made_of_plain_text(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [1.0, 2.0]})
    assert json.loads(json.dumps(verdict(section))) == verdict(section)
    assert all(isinstance(estimate, Estimate) for group in section.groups for estimate in group.measures.values())
    assert all(a != b for a, b in pairwise(verdict(section)))
