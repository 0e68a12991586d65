"""The page of a report in a real browser, headless and without a network."""

import csv
import json
import os
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from entropic_rl.cli import main
from entropic_rl.compare.report import read_report, write_report
from tests.synthetic import EVERY_FIGURE, SESSION, row, write_everything, write_failure, write_plan, write_run

REQUIRED = "ENTROPIC_RL_REQUIRE_BROWSER"
CURVES = EVERY_FIGURE - {"visits"}  # figures that draw something for each group apart


def missing(what):
    """No browser is a reason to skip, unless one has to be there."""
    (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"{what}: install Chromium and playwright")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing("no chromium on PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of a comparison that has every figure."""
    return written(write_everything, tmp_path_factory.mktemp("everything"))


def written(write, out):
    write_report(read_report(write(out), out), out)
    return out / "report.html"


@contextmanager
def opened(browser, path, **options):
    """A page, and all that went wrong while it was open."""
    context = browser.new_context(offline=True, **options)
    page, wrong, address = context.new_page(), [], path.as_uri()

    def allow(route):
        if route.request.url == address:
            return route.continue_()
        wrong.append(f"asked for {route.request.url}")
        return route.abort()

    context.route("**/*", allow)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    try:
        page.goto(address)
        yield SimpleNamespace(page=page, wrong=wrong, all=page.evaluate)
    finally:
        context.close()


@pytest.fixture
def shown(browser, report):
    with opened(browser, report, viewport={"width": 1200, "height": 900}) as found:
        yield found
        assert found.wrong == []


def visible_series(page):
    """Figure -> which series are visible in it, and which are hidden; a series must be either."""
    states = page.evaluate(
        """() => [...document.querySelectorAll("figure [data-series]")].map(part => {
            let [e, seen] = [part, true];
            for (; e.tagName !== "FIGURE"; e = e.parentElement) seen &&= getComputedStyle(e).display !== "none";
            return [e.id, Number(part.dataset.series), seen];
        })"""
    )
    found = {}
    for figure, series, visible in states:
        seen, hidden = found.setdefault(figure, (set(), set()))
        (seen if visible else hidden).add(series)
    assert all(not seen & hidden for seen, hidden in found.values())
    return found


def count_other_parts(page):
    """Visible parts of figures that belong to no series: axes, words, exact policies."""
    return page.evaluate(
        """() => [...document.querySelectorAll("figure svg path, figure svg text, figure svg image")].filter(
            part => !part.closest("[data-series]") && part.getBoundingClientRect().height > 0).length"""
    )


# As it opens


def test_page_opens_without_an_error_and_asks_for_nothing(shown):
    assert "PPO on entropic_rl/Chain-v0" in shown.page.title()
    assert shown.page.locator("h1").inner_text() == shown.page.title()
    assert shown.page.locator("#verdict li").count() >= 3
    assert shown.wrong == []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_every_figure_is_visible(browser, report, scripts):
    with opened(browser, report, viewport={"width": 390, "height": 900}, java_script_enabled=scripts) as found:
        assert_every_figure_is_visible(found)
        found.page.set_viewport_size({"width": 1200, "height": 900})
        assert_every_figure_is_visible(found)
        assert found.wrong == []


def assert_every_figure_is_visible(found):
    sizes = found.all(
        """() => [...document.querySelectorAll("figure")].map(figure => {
            const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
            const parts = name => svg.querySelectorAll(name).length;
            const caption = figure.querySelector("figcaption").getBoundingClientRect();
            return [figure.id, box.width, box.height, parts("path"), parts("text"), caption.height];
        })"""
    )
    assert {name for name, *_ in sizes} == EVERY_FIGURE
    for name, width_shown, height_shown, n_paths, n_words, caption in sizes:
        assert width_shown >= 300, name
        assert height_shown >= 60, name
        assert n_paths >= 5, name
        assert n_words >= 2, name
        assert caption >= 10, name
    assert found.page.locator("figure#returns > svg").is_visible()


def test_curves_lie_inside_their_figures(shown):
    outside = shown.all(
        """() => [...document.querySelectorAll("figure [data-series]")].filter(part => {
            const own = part.getBoundingClientRect(), all = part.closest("svg").getBoundingClientRect();
            return own.right < all.left || own.left > all.right || own.bottom < all.top || own.top > all.bottom;
        }).map(part => part.id)"""
    )
    assert outside == []


def test_page_is_no_wider_than_the_screen(shown):
    shown.all("() => document.querySelectorAll('details').forEach(part => { part.open = true; })")
    for width in (360, 390, 768, 1200):
        shown.page.set_viewport_size({"width": width, "height": 800})
        assert shown.all("() => document.documentElement.clientWidth") == width
        assert shown.all("() => document.documentElement.scrollWidth") <= width


def test_words_in_figures_are_large_enough_to_read(shown):
    for width, least in ((390, 7.0), (1200, 8.0)):
        shown.page.set_viewport_size({"width": width, "height": 800})
        sizes = shown.all(
            """() => [...document.querySelectorAll("figure svg text, figure svg tspan")].map(text => {
                const {a, b} = text.getScreenCTM();
                return [parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b), text.textContent.trim()];
            })"""
        )
        assert len(sizes) > 50
        assert [size for size in sizes if size[0] < least and size[1]] == []


# Switches


def test_unticking_a_group_hides_its_curves_in_all_figures_and_nothing_else(shown):
    before = visible_series(shown.page)
    assert before == {name: ({0, 1, 2}, set()) for name in CURVES}
    others = count_other_parts(shown.page)
    switch = shown.page.locator(".legend").get_by_label("0.1", exact=True)
    switch.uncheck()
    assert visible_series(shown.page) == {name: ({0, 2}, {1}) for name in CURVES}
    assert count_other_parts(shown.page) == others
    switch.check()
    assert visible_series(shown.page) == before


def test_groups_are_switched_apart(shown):
    legend = shown.page.locator(".legend")
    legend.get_by_label("0", exact=True).uncheck()
    legend.get_by_label("0.5", exact=True).uncheck()
    assert visible_series(shown.page) == {name: ({1}, {0, 2}) for name in CURVES}
    legend.get_by_label("0", exact=True).check()
    assert visible_series(shown.page) == {name: ({0, 1}, {2}) for name in CURVES}


def test_buttons_hide_and_show_all_groups(shown):
    legend = shown.page.locator(".legend")
    legend.get_by_role("button", name="none").click()
    assert visible_series(shown.page) == {name: (set(), {0, 1, 2}) for name in CURVES}
    assert [box.is_checked() for box in legend.get_by_role("checkbox").all()] == [False] * 3
    legend.get_by_label("0.1", exact=True).check()
    assert visible_series(shown.page) == {name: ({1}, {0, 2}) for name in CURVES}
    legend.get_by_role("button", name="all").click()
    assert visible_series(shown.page) == {name: ({0, 1, 2}, set()) for name in CURVES}
    assert [box.is_checked() for box in legend.get_by_role("checkbox").all()] == [True] * 3


def test_switches_work_from_the_keyboard(shown):
    shown.page.locator(".legend").get_by_label("0.1", exact=True).focus()
    shown.page.keyboard.press("Space")
    assert visible_series(shown.page)["returns"] == ({0, 2}, {1})


def test_page_that_is_reloaded_shows_what_its_switches_say(shown):
    shown.page.locator(".legend").get_by_label("0.1", exact=True).uncheck()
    shown.page.reload()
    ticked = {i for i, box in enumerate(shown.page.get_by_role("checkbox").all()) if box.is_checked()}
    assert visible_series(shown.page)["returns"][0] == ticked


def test_switches_of_one_environment_leave_the_other_alone(browser, tmp_path):
    def write(out):
        plan = write_plan(out, 2, env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0.0, 0.1])
        for cell in plan.cells(out):
            write_run(cell, cell.config.ent_coef + cell.run.seed)
        return plan

    with opened(browser, written(write, tmp_path)) as found:
        found.page.locator(".legend").nth(1).get_by_role("checkbox").first.uncheck()
        visible = visible_series(found.page)
        assert visible["e0-returns"] == ({0, 1}, set())
        assert visible["e1-returns"] == ({1}, {0})
        assert found.wrong == []


# Elsewhere


def test_details_open(shown):
    for summary in shown.page.locator("summary").all():
        summary.click()
    assert shown.page.locator("#runs").is_visible()
    assert shown.page.locator("pre").last.is_visible()


def test_page_prints_with_its_figures_and_without_buttons(shown):
    shown.page.emulate_media(media="print")
    assert shown.page.locator("figure#returns svg").is_visible()
    assert not shown.page.locator(".legend button").first.is_visible()
    assert shown.page.pdf().startswith(b"%PDF")


def test_what_is_folded_away_is_printed(shown):
    shown.page.emulate_media(media="print")
    assert all(pre.bounding_box()["height"] > 20 for pre in shown.page.locator("details pre").all())
    assert shown.page.locator("#runs").bounding_box()["height"] > 100


# Hostile names

EVIL = "document.title=1"
HOSTILE = (
    f"""<script>{EVIL}</script>"><img src=x onerror={EVIL}></svg><svg onload={EVIL}>]]>--> id="verdict" """
    """{{ 7 * 7 }} $\\frac{1$"""
)
ENV = f"</b><svg onload={EVIL}>$a$"
FILE = f"<img src=x onerror={EVIL}> $x^{{$.csv"  # no name of a file has a slash


def compare_hostile(out):
    plan = write_plan(out, 2, env=[ENV, "CartPole-v1"], ent_coef=[0.0, 0.1])
    signals = {f"flow/<b id=x>$a$/{name}": 0.5 for name in ("entropy_norm", "task_norm", "cosine")}
    *cells, last = plan.cells(out)
    for cell in cells:
        write_run(cell, 1.0 + cell.run.seed, rows=[row(500, 1.0, **signals), row(1000, 1.0, **signals)])
    write_failure(last, HOSTILE)
    (out / "sessions.jsonl").write_text(json.dumps(SESSION | {"command": ["compare.py", HOSTILE]}) + "\n")
    return written(lambda _: plan, out)


def verb_on_hostile_data(verb, *flags):
    def run(out):
        rng = np.random.default_rng(0)
        path = out.parent / FILE
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = [[*rng.normal(size=2), f"{HOSTILE}{k % 3}", k] for k in range(90)]
            csv.writer(file).writerows([[f"{HOSTILE} a", "b", f"{HOSTILE} label", "group"], *lines])
        small = ["--target", f"{HOSTILE} label", "--n-epochs", "2", "--net-arch", "4", "--seeds", "2", "--no-progress"]
        assert main([*flags, "--data", str(path), *small, "--out", str(out)], verb=verb) == 0
        return out / "report.html"

    return run


PAGES = {
    "compare": compare_hostile,
    "calibrate": verb_on_hostile_data("calibrate", "--ent-coef", "0", "0.5"),
    "robustness": verb_on_hostile_data("robustness", "--ent-coef", "0", "0.5", "--n-steps", "2", "--n-queries", "2"),
    "study": verb_on_hostile_data("study", "learning-rate"),
}
SLOW = ("calibrate", "robustness", "study")  # their pages are made by the same template


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in PAGES]
)
def test_hostile_names_do_nothing(name, browser, tmp_path):
    with opened(browser, PAGES[name](tmp_path / "out")) as found:
        assert found.page.title() != "1"
        assert found.page.locator("main img, main script, main iframe, main [onload], main [onerror]").count() == 0
        assert found.page.locator("script").count() == 1
        assert found.page.locator("figure svg svg").count() == 0
        ids = found.all("() => [...document.querySelectorAll('[id]')].map(part => part.id)")
        assert len(ids) == len(set(ids))
        found.page.locator(".legend").first.get_by_role("checkbox").first.uncheck()
        shown = found.all("() => document.documentElement.textContent")
        assert "onerror=" in shown
        assert "{{ 7 * 7 }}" in shown or name == "study"
        assert found.wrong == []


FOREIGN = (
    f"<script>{EVIL}</script>",
    f'<img src="data:," onerror="{EVIL}">',
    f'<svg onload="{EVIL}"></svg>',
    '<iframe src="data:text/html,x"></iframe>',
    '<img src="https://example.com/x.png">',
    '<link rel="stylesheet" href="https://example.com/x.css">',
    '<script src="https://example.com/x.js"></script>',
    '<object data="https://example.com/x"></object>',
    '<base href="https://example.com/">',
    "<style>@import url(https://example.com/x.css);</style>",
    "<style>body { background: url(https://example.com/x.png); }</style>",
)


def test_browser_refuses_what_does_not_belong_to_the_page(browser, report, tmp_path):
    page = report.read_text("utf-8")
    (tmp_path / "report.html").write_text(page.replace("<h1>", f"{''.join(FOREIGN)}<h1>", 1), encoding="utf-8")
    with opened(browser, tmp_path / "report.html") as found:
        assert found.page.title() != "1"
        assert len(found.wrong) >= len(FOREIGN)
        assert all("Content Security Policy" in text for text in found.wrong)
