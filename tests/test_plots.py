"""Figures as SVG: what is drawn, what can be switched, and what a figure does with odd data."""

import io
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest

from entropic_rl.compare import figures
from entropic_rl.compare.figures import pictures
from entropic_rl.plots import RunFigures
from entropic_rl.plots import comparison as draw
from entropic_rl.plots.comparison import Series
from entropic_rl.plots.style import series_look, thousands
from tests.synthetic import numbers_of, row, section_of, write_plan, write_run

SVG = "{http://www.w3.org/2000/svg}"
nan = math.nan


def drawn(plot, *arguments, **options):
    """The figure as an XML tree; that it is one is half of every test here."""
    file = io.StringIO()
    plot(file, *arguments, **options)
    return ET.fromstring(file.getvalue())


def texts(root):
    return ["".join(element.itertext()) for element in root.iter(SVG + "text")]


def ids(root):
    return [element.get("id") for element in root.iter() if element.get("id")]


def tagged(root):
    """Series -> ids of what is drawn for it."""
    found = {}
    for name in ids(root):
        if match := re.match(r"s(\d+)-", name):
            found.setdefault(int(match[1]), []).append(name)
    return found


def series(i=0, n=2, x=(0.0, 500.0, 1000.0), y=(0.1, 0.2, 0.3), width=0.05):
    x, y = np.array(x), np.array(y)
    return Series(i, n, f"group {i}", x, y, y - width, y + width)


def picture_of(section, name):
    """One figure of the report, without drawing the others."""
    return getattr(figures, f"_{name}")(section)


# Looks


@pytest.mark.parametrize("n", range(1, 29))
def test_series_look_different(n):
    looks = [(look["color"].lower(), look["ls"]) for look in (series_look(i, n) for i in range(n))]
    assert len(set(looks)) == n
    assert len({color for color, _ in looks}) == n
    assert all(a[1] != b[1] for a, b in pairwise(looks))  # neighbours in print, too


@pytest.mark.parametrize("n", [8, 28])
def test_many_series_grow_lighter_in_order(n):
    rgb = [mpl.colors.to_rgb(series_look(i, n)["color"]) for i in range(n)]
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in rgb]
    assert all(np.diff(lightness) > 0)
    assert max(lightness) < 0.8  # legible on white


@pytest.mark.parametrize(
    ("steps", "text"), [(0, "0"), (500, "500"), (2500, "2.5k"), (1e6, "1M"), (1.5e6, "1.5M"), (-2000, "-2k")]
)
def test_axis_counts_steps_in_thousands_and_millions(steps, text):
    assert thousands(steps) == text


# What can be switched


def every_plot():
    many = [series(i, 3) for i in range(3)]
    policies = [(f"group {i}", np.full((2, 5), 0.5), np.full(5, 0.4), np.full(5, 0.6)) for i in range(3)]
    return {
        "curves": lambda: drawn(draw.plot_curves, many, ylabel="y", ceiling=0.7, level=(0.2, "threshold")),
        "markers": lambda: drawn(draw.plot_curves, many, ylabel="y", markers=many),
        "steps": lambda: drawn(draw.plot_steps, many, ylabel="y", horizon=2000.0),
        "profiles": lambda: drawn(draw.plot_profiles, many, xlabel="x", level=(0.2, "threshold")),
        "quantiles": lambda: drawn(draw.plot_quantiles, many, ylabel="y", ceiling=0.7),
        "policies": lambda: drawn(draw.plot_policies, policies, ylabel="y"),
    }


@pytest.mark.parametrize("name", every_plot())
def test_everything_drawn_for_a_series_has_an_id_of_its_own_that_says_so(name):
    root = every_plot()[name]()
    assert set(tagged(root)) == {0, 1, 2}
    assert len(set(ids(root))) == len(ids(root))
    assert len({len(parts) for parts in tagged(root).values()}) == 1


@pytest.mark.parametrize("name", ["curves", "steps", "profiles", "quantiles"])
def test_lines_and_bands_of_a_series_are_switched_together(name):
    assert all(len(parts) >= 2 for parts in tagged(every_plot()[name]()).values())


def test_names_with_markup_in_them_stay_text():
    one = Series(0, 1, "<b>&\"'", np.arange(3.0), np.ones(3), np.ones(3), np.ones(3))
    assert "<b>&\"'" in texts(drawn(draw.plot_quantiles, [one], ylabel="nats <i>", ceiling=None))


# Odd data


@pytest.mark.parametrize("x", [(5.0,), (5.0, 5.0), (0.0, 1e9)])
def test_curves_of_few_or_far_points_are_drawn(x):
    assert 0 in tagged(drawn(draw.plot_curves, [series(0, 1, x, [1.0] * len(x))], ylabel="y"))


@pytest.mark.parametrize("value", [0.0, -1e9, 1e-12, 475.0])
def test_profiles_of_equal_scores_are_drawn(value):
    one = series(0, 1, [value - 1.0, value, value + 1.0], [1.0, 0.0, 0.0], 0.0)
    assert 0 in tagged(drawn(draw.plot_profiles, [one], xlabel="return", level=None))


@pytest.mark.parametrize("scores", [{0.0: [2.0, 2.0], 0.1: [2.0, 2.0]}, {0.0: [1.0], 0.1: [2.0]}])
def test_profiles_that_would_say_nothing_are_left_out(tmp_path, scores):
    assert picture_of(section_of(tmp_path, scores), "profiles") is None


def test_times_of_runs_that_never_got_there_stay_at_zero_to_the_end():
    never = Series(0, 1, "never", np.array([0.0]), np.array([0.0]), np.array([0.0]), np.array([0.0]))
    assert 0 in tagged(drawn(draw.plot_steps, [never], ylabel="share", horizon=1000.0))


@pytest.mark.parametrize(("n", "shape"), [(1, (3, 3)), (2, (13, 13)), (5, (1, 6)), (12, (2, 2))])
def test_heat_maps_of_any_number_and_shape_are_drawn(n, shape):
    values = np.arange(math.prod(shape), dtype=float).reshape(shape) / 100.0
    values[0, 1] = nan  # no state
    root = drawn(draw.plot_heat_maps, [(f"group {i}", values) for i in range(n)], label="share")
    assert len(list(root.iter(SVG + "image"))) >= n
    assert [text for text in texts(root) if text.startswith("group")] == [f"group {i}" for i in range(n)]


@pytest.mark.parametrize("visits", [[[1.0, 0.0]], [[1.0, 1.0]], [[1e-9, 1.0]]])
def test_heat_map_of_few_or_equal_visits_is_drawn(visits):
    root = drawn(draw.plot_heat_maps, [("a", np.array(visits)), ("b", np.zeros((1, 2)))], label="share")
    assert len(list(root.iter(SVG + "image"))) >= 2


def test_heat_map_without_any_visit_is_drawn():
    root = drawn(draw.plot_heat_maps, [("a", np.zeros((2, 2)))], label="share")
    assert len(list(root.iter(SVG + "image"))) >= 1
    assert "a" in texts(root)


def test_policies_without_exact_ones_are_drawn():
    root = drawn(draw.plot_policies, [("a", np.full((3, 5), 0.5), None, None)], ylabel="probability")
    assert not [text for text in texts(root) if "exact" in text]


# The response to what was swept


def response_of(out, scores, **options):
    return ET.fromstring(picture_of(section_of(out, scores, **options), "response").inline)


def points_of(root):
    """Where the points of the first panel lie: horizontal places by series."""
    found = {}
    for element in root.iter(SVG + "g"):
        used = element.find(f".//{SVG}use")
        series = element.get("data-series")
        if series is not None and used is not None and used.get("x"):
            found.setdefault(int(series), float(used.get("x")))
    return [found[i] for i in sorted(found)]


def test_response_lies_on_a_logarithmic_axis_with_zero_apart(tmp_path):
    root = response_of(tmp_path, {coef: [1.0, 2.0] for coef in (0.0, 0.001, 0.01, 0.1)})
    assert {"0", "0.001", "0.01", "0.1", "ent_coef"} <= set(texts(root))
    gaps = np.diff(points_of(root))
    assert gaps[1] == pytest.approx(gaps[2], rel=0.01)
    assert 0 < gaps[0] < gaps[1]


def test_response_over_schedules_and_numbers_lies_in_the_order_of_the_groups(tmp_path):
    root = response_of(tmp_path, {coef: [1.0, 2.0] for coef in ("linear:0.1:0", 1.0, 0.01)})
    assert {"linear:0.1:0", "1", "0.01"} <= set(texts(root))
    gaps = np.diff(points_of(root))
    assert gaps[0] == pytest.approx(gaps[1], rel=0.01)
    assert gaps[0] > 0


def test_response_over_agents_has_their_names(tmp_path):
    plan = write_plan(tmp_path, 2, agents=("ppo", "a2c"))
    for cell in plan.cells(tmp_path):
        write_run(cell, cell.run.seed + cell.config.ent_coef)
    [section] = numbers_of(plan, tmp_path).sections
    said = " ".join(texts(ET.fromstring(picture_of(section, "response").inline)))
    assert all(name in said for name in ("ppo", "a2c", "0.1"))


def test_line_of_the_response_goes_from_left_to_right_whatever_the_order_of_the_groups(tmp_path):
    section = section_of(tmp_path, {coef: [1.0, 2.0] for coef in (0.0, 0.01, 1.0, 0.1)})
    lines = re.findall(r'<path d="([^"]*)"[^>]*style="[^"]*stroke: #999999', picture_of(section, "response").inline)
    x = [float(point.split()[0]) for point in re.split("[ML]", lines[0])[1:]]
    assert len(x) == 4
    assert x == sorted(x)


@pytest.mark.parametrize("scores", [{0.0: [1.0], 0.1: [2.0]}, {0.0: [2.0] * 3, 0.1: [2.0] * 3}])
def test_response_without_intervals_or_differences_is_drawn(tmp_path, scores):
    assert len(points_of(response_of(tmp_path, scores))) == 2


def test_response_of_one_group_is_left_out(tmp_path):
    assert picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}), "response") is None


# What maps, policies and times show, by hand


def given_to(monkeypatch, plot):
    """What a picture hands to the function that draws it."""
    calls, original = [], getattr(draw, plot)

    def recording(file, *arguments, **options):
        calls.append((arguments, options))
        original(file, *arguments, **options)

    monkeypatch.setattr(draw, plot, recording)
    return calls


def test_heat_map_shows_the_mean_share_of_visits_where_each_state_lies(tmp_path, monkeypatch):
    def write(cell, score):
        visits = np.array([[3, 0, 1], [0, 0, 9]][cell.run.seed])
        write_run(cell, score, tables={"visits": visits, "layout": np.array([[2, 1], [0, -1]])})

    calls = given_to(monkeypatch, "plot_heat_maps")
    picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}, write=write), "heat_maps")
    [(([(name, values)],), _)] = calls
    assert name == "0.1"
    # (3/4 + 0) / 2, 0, (1/4 + 1) / 2; the last place is no state
    np.testing.assert_allclose(values, [[0.625, 0.0], [0.375, nan]])


def test_heat_map_is_left_out_where_a_run_has_no_layout(tmp_path):
    def write(cell, score):
        tables = {"visits": np.ones(2), "layout": np.array([[0, 1]])}
        write_run(cell, score, tables=tables if cell.run.seed else {"visits": np.ones(2)})

    assert picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}, write=write), "heat_maps") is None


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], [0.9, 0.8, 0.7]),  # the last action in every state
        ([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], [0.1, 0.2, 0.7]),  # a bandit: every arm, before the end
        ([[0.1, 0.9], [0.2, 0.8]], [0.9, 0.8]),
    ],
)
def test_policies_are_shown_by_their_last_action_or_a_bandit_by_its_arms(tmp_path, monkeypatch, policy, shown):
    own, uniform = np.array(policy), np.full_like(policy, 1 / len(policy[0]))
    run = {"tables": {"policy": own, "optimum": uniform, "loss_only": own}}
    calls = given_to(monkeypatch, "plot_policies")
    picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}, run=run), "policies")
    [(([(name, runs, optimum, loss_only)],), _)] = calls
    assert name == "0.1"
    assert runs.tolist() == [shown, shown]
    assert optimum.tolist() == [1 / len(policy[0])] * len(shown)
    assert loss_only.tolist() == shown


def test_policies_of_many_states_are_left_out(tmp_path):
    run = {"tables": {"policy": np.full((21, 2), 0.5)}}
    assert picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}, run=run), "policies") is None


def test_exact_policy_beside_runs_of_different_temperatures_is_not_that_of_one_run(tmp_path, monkeypatch):
    """Where advantages are normalised, every seed ends with an effective temperature of its own."""

    def write(cell, score):
        exact = np.full((3, 2), 0.5) + 0.2 * cell.run.seed * np.array([-1.0, 1.0])
        write_run(cell, score, tables={"policy": np.full((3, 2), 0.5), "optimum": exact})

    calls = given_to(monkeypatch, "plot_policies")
    picture_of(section_of(tmp_path, {0.1: [1.0, 2.0]}, write=write), "policies")
    [(([(_, _, optimum, _)],), _)] = calls
    np.testing.assert_allclose(optimum, 0.6)  # the mean of 0.5 and 0.7


def test_share_of_runs_that_got_there_rises_to_what_kaplan_and_meier_say(tmp_path, monkeypatch):
    def write(cell, score):
        first = [200.0, 600.0, nan, nan][cell.run.seed]
        write_run(cell, score, first_success=first, success_return=1e9)

    calls = given_to(monkeypatch, "plot_steps")
    picture_of(section_of(tmp_path, {0.1: [1.0] * 4}, write=write), "times")
    [((), options)] = calls
    [one] = options["series"]
    assert options["horizon"] == 1000
    assert one.x.tolist() == [0.0, 200.0, 600.0]
    assert one.y.tolist() == pytest.approx([0.0, 0.25, 0.5])
    assert (one.low <= one.y).all()
    assert (one.y <= one.high).all()


# Of one run


def test_figures_of_a_run_show_its_curves_and_the_largest_entropy(tmp_path):
    rows = [row(100, 1.0, **{"train/entropy": 0.6}), row(200, 2.0, **{"train/entropy": 0.5, "eval/mean_reward": 3.0})]
    RunFigures(math.log(2)).draw(rows, tmp_path, title="CartPole-v1 <&>")
    learning, entropy = (ET.parse(tmp_path / name).getroot() for name in ("learning_curve.svg", "entropy.svg"))
    assert "CartPole-v1 <&>" in texts(learning)
    assert "deterministic evaluation" in texts(learning)
    assert "uniform policy" in texts(entropy)


def test_figures_of_a_run_without_a_finished_episode_are_drawn(tmp_path):
    RunFigures(None).draw([{"global_step": 100.0}], tmp_path, title="t")
    assert "uniform policy" not in texts(ET.parse(tmp_path / "entropy.svg").getroot())


# Which figures a record allows


def test_figures_are_made_of_what_was_recorded(tmp_path):
    def write(cell, score):
        rows = [
            row(
                step,
                score,
                entropy=0.3,
                q10=0.1,
                q50=0.3,
                q90=0.6,
                n_states=step / 100 + cell.run.seed + 10 * cell.config.ent_coef,
                temperature=cell.config.ent_coef,
                saturation=0.1,
                score=score,
            )
            for step in (100, 500, 1000)
        ]
        write_run(cell, score, rows=rows, first_success=400.0, success_return=1.0)

    section = section_of(tmp_path / "all", {0.0: [0.0, 2.0], 0.1: [1.0, 3.0]}, write=write)
    names = [picture.name for picture in pictures(section)]
    assert set(names) == {
        "returns", "entropy", "response", "coverage", "times", "profiles", "evaluations", "states", "temperature",
        "saturation",
    }  # fmt: skip
    assert len(set(names)) == len(names)
    least = section_of(
        tmp_path / "least", {0.1: [1.0]}, run={"rows": [row(1000, 1.0)], "entropy": ..., "max_entropy": None}
    )
    assert [picture.name for picture in pictures(least)] == ["returns"]


def test_figures_of_several_sections_have_ids_of_their_own(tmp_path):
    section = section_of(tmp_path, {0.0: [0.0, 2.0], 0.1: [1.0, 3.0]})
    drawn = pictures(section, "e0-")
    drawn += [replace(picture, name=picture.name.replace("e0-", "e1-")) for picture in drawn]
    every = [name for picture in drawn for name in re.findall(r' id="([^"]*)"', picture.inline)]
    assert len(set(every)) == len(every)
    assert {name[:3] for name in every} == {"e0-", "e1-"}


def test_figures_on_a_page_refer_to_nothing_but_their_own_parts(tmp_path):
    for picture in pictures(section_of(tmp_path, {0.0: [0.0, 2.0], 0.1: [1.0, 3.0]})):
        svg = picture.inline
        own = set(re.findall(r' id="([^"]*)"', svg))
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used
        assert used <= own
        assert not re.search(r"<metadata|<!DOCTYPE|<\?xml", svg)
        ET.fromstring(svg)


# Names


@pytest.mark.parametrize(
    "name", ["$a$", "$\\frac{1$", "1 $", "a$ b$ c", r"\$a$", "</text><script>x</script>", "a & b", '"x" id="y"']
)
def test_names_are_drawn_as_they_are_written(name):
    lines = [replace(series(i), label=f"{name}{i}") for i in range(2)]
    drawn_names = texts(drawn(draw.plot_curves, lines, ylabel=name))
    assert {name, f"{name}0", f"{name}1"} <= set(drawn_names)


def test_names_at_ticks_are_drawn_as_they_are_written():
    from entropic_rl.plots.style import figure

    file = io.StringIO()
    with figure(file, "$title$", steps=False) as (axes,):
        axes.set_xticks([0, 1], ["$a$", "$b^{$"])
        axes.set_yticks([0, 1])
        axes.set_yticklabels(["$c$", "d"])
    assert {"$title$", "$a$", "$b^{$", "$c$", "d"} <= set(texts(ET.fromstring(file.getvalue())))


def test_powers_of_ten_stay_mathematics():
    from entropic_rl.plots.style import figure

    file = io.StringIO()
    with figure(file, "", steps=False) as (axes,):
        axes.plot([1, 1e6], [1, 2])
        axes.set_xscale("log")
    assert not any("mathdefault" in text or "$" in text for text in texts(ET.fromstring(file.getvalue())))
