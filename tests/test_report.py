"""The files of a report: one page that needs nothing else, and all numbers as JSON and CSV."""

import csv
import json
import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml

from entropic_rl.compare import report as module
from entropic_rl.compare.grid import read_plan
from entropic_rl.compare.report import print_report, read_report, track_report, write_report
from entropic_rl.compare.verdict import caveats, verdict
from entropic_rl.compare.words import interval, number
from entropic_rl.page import Row, Table, command_line, screen_table
from entropic_rl.progress import make_console
from entropic_rl.run_directory import read_json
from tests.synthetic import (
    EVERY_FIGURE,
    SESSION,
    numbers_of,
    row,
    write_everything,
    write_failure,
    write_plan,
    write_run,
)

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """The elements of a page, and that every one is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(plan, out, *, figures=False):
    """The page and the numbers, written with figures or, sooner, without."""
    report = read_report(plan, out) if figures else numbers_of(plan, out)
    write_report(report, out)
    return Page((out / "report.html").read_text("utf-8")), strict_json(out / "comparison.json"), report


def strict_json(path):
    def refuse(word):
        raise ValueError(word)

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A comparison with every figure: its page, its numbers, its report, its directory."""
    out = tmp_path_factory.mktemp("everything")
    return SimpleNamespace(
        out=out, **dict(zip(("page", "json", "report"), written(write_everything(out), out, figures=True), strict=True))
    )


@pytest.fixture
def one_seed(tmp_path):
    plan = write_plan(tmp_path, 1)
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0)
    return plan


# The page


def test_page_refers_to_nothing_outside_itself(everything):
    for tag, attributes in everything.page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert re.match(r"#|data:", attributes.get(name) or "#"), (tag, attributes)
    text = (everything.out / "report.html").read_text("utf-8")
    assert not re.search(r"@import|url\(\s*[\"']?(?!#|data:)|fetch\(|XMLHttpRequest|WebSocket", text)
    addresses = set(re.findall(r"\bhttps?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_of_the_page_are_unique_and_every_reference_has_its_target(everything):
    assert [name for name, n in Counter(everything.page.ids).items() if n > 1] == []
    text = (everything.out / "report.html").read_text("utf-8")
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', text)) <= set(everything.page.ids)


def test_every_figure_is_on_the_page_with_a_title_and_a_caption(everything):
    assert {attributes["id"] for attributes in everything.page.all("figure")} == EVERY_FIGURE
    assert len(everything.page.all("figcaption")) == len(EVERY_FIGURE)
    assert len([a for a in everything.page.all("svg") if a.get("role") == "img"]) == len(EVERY_FIGURE)


def test_every_figure_is_a_file_of_its_own_too(everything):
    files = {path.stem: path for path in (everything.out / "figures").iterdir()}
    assert set(files) == EVERY_FIGURE
    for path in files.values():
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_figures_that_the_record_no_longer_allows_do_not_stay(one_seed, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "e1-returns.svg").write_text("<svg/>")  # of a report of two environments
    _, _, report = written(one_seed, tmp_path)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        picture.name for drawn in report.pictures.values() for picture in drawn
    }


def test_there_is_a_switch_per_group_for_what_is_drawn_of_it(everything):
    switches = [a["data-toggle"] for a in everything.page.all("input") if a["type"] == "checkbox"]
    drawn = {a["data-series"] for _, a in everything.page.elements if "data-series" in a}
    assert switches == ["0", "1", "2"]
    assert drawn == set(switches)


def test_page_says_the_verdict_and_the_caveats_word_for_word(everything):
    [section] = everything.report.sections
    for sentence in [*verdict(section), *caveats(section, everything.report.outcomes)]:
        assert sentence in everything.page.texts


def test_page_says_how_many_runs_of_how_many_steps_it_is_about(everything):
    [line] = [text for text in everything.page.texts if "runs:" in text]
    for words in ("9 runs", "3 groups", "3 seeds", "1,000 environment steps"):
        assert words in line


def test_tables_hold_the_groups_the_baseline_and_every_run(everything):
    [section] = everything.report.sections
    words = set(everything.page.texts)
    for group in section.groups:
        assert group.name in words
        assert interval(group.score) in words
        assert {number(value) for value in group.returns} <= words
    tables = {a["id"] for a in everything.page.all("table")}
    assert tables == {"groups", "baseline", "runs"}
    assert len([a for a in everything.page.all("tr") if a.get("class") == "best"]) == len(section.robust)


def test_settings_on_the_page_are_what_config_reads(everything):
    [settings] = [text for text in everything.page.texts if text.startswith("# swept")]
    said = yaml.safe_load(settings)
    assert said["env"] == "entropic_rl/Chain-v0"
    assert said["normalize_advantage"] is True
    assert json.loads(settings.splitlines()[0].removeprefix("# swept: ")) == {"ent_coef": [0.0, 0.1, 0.5]}


def test_page_says_how_to_repeat_it_and_with_which_versions(everything):
    assert "python scripts/compare.py ppo --env CartPole-v1 --ent-coef 0 0.1" in everything.page.texts
    assert any("torch " in text and "numpy " in text for text in everything.page.texts)


def test_comparison_that_the_console_script_started_is_repeated_by_it():
    command = ["entropic-rl", "compare", "ppo", "--env", "CartPole-v1"]
    assert command_line(command) == "entropic-rl compare ppo --env CartPole-v1"


def test_arguments_with_spaces_are_quoted_in_the_command():
    command = ["compare.py", "ppo", "--env-kwargs", "goal=[3, 6]"]
    assert command_line(command) == "python scripts/compare.py ppo --env-kwargs 'goal=[3, 6]'"


@pytest.mark.slow
def test_same_record_gives_the_same_bytes(everything):
    before = {path: path.read_bytes() for path in everything.out.rglob("*") if path.is_file()}
    written(read_plan(everything.out), everything.out, figures=True)
    assert {path: path.read_bytes() for path in everything.out.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_page_of_32_runs_is_below_one_and_a_half_megabytes(tmp_path):
    coefs = tuple(0.001 * 2**i for i in range(8))
    written(write_everything(tmp_path, 4, coefs, n_rows=200), tmp_path, figures=True)
    assert 100_000 < (tmp_path / "report.html").stat().st_size < 1_500_000


def test_names_with_markup_in_them_are_shown_as_text(tmp_path):
    env = "<b>R&D</b>-v0"
    plan = write_plan(tmp_path, 2, env=[env, "CartPole-v1"], ent_coef=[0.0, 0.1])
    cells = plan.cells(tmp_path)
    for cell in cells[:3] + cells[4:]:
        write_run(cell, 1.0 + cell.run.seed)
    write_failure(cells[3], "<script>alert(1)</script> & so on")
    (tmp_path / "sessions.jsonl").write_text(json.dumps(SESSION | {"command": ["compare.py", "<i>"]}) + "\n")
    page, *_ = written(plan, tmp_path, figures=True)
    assert not page.all("b")[2:]  # one before the switches of each environment
    assert not page.all("i")
    assert len(page.all("script")) == 1
    assert any(env in text for text in page.texts)
    assert "<script>alert(1)</script> & so on" in page.texts
    assert any(text.startswith(env) or f" {env}" in text for text in page.texts if "1" in text)


def test_several_environments_have_parts_of_their_own(tmp_path):
    plan = write_plan(tmp_path, 2, env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0.0, 0.1])
    for cell in plan.cells(tmp_path):
        write_run(cell, cell.config.ent_coef + cell.run.seed)
    page, numbers, report = written(plan, tmp_path, figures=True)
    assert len(set(page.ids)) == len(page.ids)
    for prefix in ("e0-", "e1-"):
        assert {prefix + name for name in ("verdict", "figures", "groups", "baseline", "runs", "returns")} <= set(
            page.ids
        )
    assert [section["env"] for section in numbers["sections"]] == ["CartPole-v1", "Acrobot-v1"]
    assert len(page.all("nav")) == 2
    assert set(report.pictures) == {"CartPole-v1", "Acrobot-v1"}


def test_page_of_one_seed_is_written(one_seed, tmp_path):
    page, numbers, _ = written(one_seed, tmp_path, figures=True)
    assert "baseline" in page.ids
    assert numbers["sections"][0]["groups"][1]["p_value_holm"] is None


@pytest.mark.parametrize(
    "record",
    [
        {"rows": [row(500, math.nan, 0), row(1000, math.nan, 0)]},  # no episode ended
        {"rows": [row(500, 1.0), row(1000, 1.0)], "entropy": ...},  # DQN has no entropy
        {"max_entropy": None, "saturation": 0.5},
        {"sampled": -0.0, "gap": -1e-9, "n_states": 1.0, "first_success": 0.0, "success_return": 0.0},
    ],
    ids=["no episode", "no entropy", "continuous actions", "zeros"],
)
def test_page_of_an_odd_record_tells_nothing_that_is_no_number(tmp_path, record):
    plan = write_plan(tmp_path, 2)
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0, **record)
    page, *_ = written(plan, tmp_path, figures=True)
    assert not [text for text in page.texts if re.search(r"\b(nan|inf|None)\b", text) and "env_kwargs" not in text]


def test_page_of_one_seed_tells_nothing_that_is_no_number(one_seed, tmp_path):
    page, *_ = written(one_seed, tmp_path)
    assert not [text for text in page.texts if re.search(r"\b(nan|inf)\b", text)]


def test_report_without_a_record_of_sessions_says_so(tmp_path):
    plan = write_plan(tmp_path, 2)
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0)
    page, numbers, _ = written(plan, tmp_path)
    assert numbers["sessions"] == []
    assert any("no record" in text for text in page.texts)


# The numbers


def test_json_holds_every_run_and_every_sentence(everything):
    [section] = everything.report.sections
    [said] = everything.json["sections"]
    assert said["verdict"] == verdict(section)
    assert said["caveats"] == caveats(section, everything.report.outcomes)
    assert len(everything.json["runs"]) == 9
    for run, outcome in zip(everything.json["runs"], everything.report.outcomes, strict=True):
        assert (everything.out / run["directory"]).samefile(outcome.cell.directory)
        summary = read_json(outcome.cell.directory / "summary.json")
        assert {name: run[name] for name in summary} == summary
        assert (run["group"], run["seed"], run["error"]) == (outcome.group, outcome.cell.run.seed, None)
    assert everything.json["sessions"] == [SESSION]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    plan = write_plan(tmp_path, 1)
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0, first_reward=math.nan)
    _, numbers, _ = written(plan, tmp_path)
    group = numbers["sections"][0]["groups"][0]
    assert group["iqm"] == {"value": 1.0, "low": None, "high": None}
    assert group["first_reward"] == {"n": 0, "median": {"value": None, "low": None, "high": None}}
    assert numbers["runs"][0]["explore/first_reward"] is None


def test_curves_hold_every_row_of_every_run_that_counts(tmp_path):
    plan = write_plan(tmp_path, 2, ent_coef=[0.0, "linear:0.1:0"])
    first, second, third, fourth = plan.cells(tmp_path)
    write_run(first, 1.5, rows=[row(100, 1.0, entropy=0.5), row(200, 1.5), row(300, math.nan)])
    write_run(second, 2.5, rows=[row(300, 2.0)])
    write_run(third, math.nan)
    write_failure(fourth)
    written(plan, tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["ent_coef"], line["seed"], line["global_step"]) for line in lines] == [
        ("0.0", "0", "100.0"), ("0.0", "0", "200.0"), ("0.0", "0", "300.0"), ("0.0", "1", "300.0"),
    ]  # fmt: skip
    assert [line["rollout/ep_rew_mean"] for line in lines] == ["1.0", "1.5", "", "2.0"]
    assert [line["explore/policy_entropy"] for line in lines] == ["0.5", "", "0.4", "0.4"]
    assert [line["eval/mean_reward"] for line in lines] == ["", "", "1.5", "2.5"]


def test_curves_have_as_many_rows_as_the_records(everything):
    n_rows = sum(len(path.read_text().splitlines()) for path in everything.out.glob("cells/*/metrics.jsonl"))
    with (everything.out / "curves.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert len(lines) == n_rows == 54
    assert header[:3] == ["ent_coef", "seed", "global_step"]
    assert header[3:] == sorted(header[3:])
    steps = np.array([float(line[2]) for line in lines]).reshape(9, 6)
    assert (np.diff(steps) > 0).all()


def test_settings_that_are_swept_have_columns_of_their_own(tmp_path):
    plan = write_plan(tmp_path, 1, ent_coef=[0.0, 0.1], gamma=[0.9, 0.99])
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0, rows=[row(1000, 1.0)])
    written(plan, tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        points = [(float(line["ent_coef"]), float(line["gamma"])) for line in csv.DictReader(file)]
    assert points == [(0.0, 0.9), (0.0, 0.99), (0.1, 0.9), (0.1, 0.99)]


def test_broken_runs_are_marked_in_the_table_and_named_above(tmp_path):
    plan = write_plan(tmp_path, 2)
    first, second, third, _ = plan.cells(tmp_path)
    write_run(first, 1.0)
    write_run(second, 2.0)
    write_run(third, 3.0)
    page, numbers, _ = written(plan, tmp_path)
    assert len([a for a in page.all("tr") if a.get("class") == "broken"]) == 1
    assert "1 + 1 broken" in page.texts
    assert any("ent_coef_0.1__seed_1" in text for text in page.texts)
    assert [run["error"] for run in numbers["runs"]] == [None, None, None, "not trained yet"]


# The screen and Weights & Biases


def test_screen_shows_a_row_per_group_the_verdict_and_where_the_page_is(everything, capsys):
    print_report(everything.report, everything.out)
    shown = capsys.readouterr()
    said = " ".join((shown.out + shown.err).split())
    [section] = everything.report.sections
    for group in section.groups:
        assert number(group.score.value) in said
    assert verdict(section)[0] in said
    assert str(everything.out / "report.html") in said


def test_reasons_of_failed_runs_are_shown_word_for_word_on_the_screen(tmp_path, capsys):
    plan = write_plan(tmp_path, 2)
    *cells, last = plan.cells(tmp_path)
    for cell in cells:
        write_run(cell, 1.0)
    write_failure(last, "no space left [/dev/shm] for [red] and [blue]")
    print_report(numbers_of(plan, tmp_path), tmp_path)
    assert "[/dev/shm] for [red] and [blue]" in " ".join(capsys.readouterr().out.split())


def test_tables_figures_and_verdict_are_mirrored_where_runs_were_tracked(everything, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "track_comparison", lambda *a, **k: calls.append((a, k)))
    track_report(everything.report, everything.out)
    assert calls == []
    base = next(iter(everything.report.plan.bases))
    run, config = everything.report.plan.bases[base]
    plan = replace(everything.report.plan, bases={base: (replace(run, track=True), config)})
    track_report(replace(everything.report, plan=plan), everything.out)
    [((out, mirrored, settings), parts)] = calls
    assert out == everything.out
    assert mirrored.wandb_group == everything.out.name
    assert settings == {"sweep": {"ent_coef": [0.0, 0.1, 0.5]}, "seeds": [0, 1, 2]}
    assert set(parts["figures"]) == EVERY_FIGURE
    assert [len(rows) for _, rows in parts["tables"].values()] == [3, 9]
    assert all(len(line) == len(columns) for columns, rows in parts["tables"].values() for line in rows)
    assert parts["summary"]["verdict"].startswith(verdict(everything.report.sections[0])[0])


def test_names_on_the_screen_are_no_markup(capsys):
    table = screen_table("[red]title[/x]", Table(["[/]", "b"], [Row(["[/bold]", "[link=x]y"])], "[/dim]"))
    make_console().print(table)
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("[red]title[/x]", "[/]", "[/bold]", "[link=x]y", "[/dim]"))
