"""Labelling a table of one's own: questions, answers, what is kept, what is refused, and what a model makes of it."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine

from entropic_rl.active.asking import ask
from entropic_rl.active.config import MODELS
from entropic_rl.active.estimators import make_estimator
from entropic_rl.active.label_book import LabelBook
from entropic_rl.active.labels import LabelFile
from entropic_rl.active.said import Said
from entropic_rl.cli import main
from entropic_rl.datasets.pools import pool_of, read_table
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.config import FitConfig

ROOT = Path(__file__).parents[1]
WINE = load_wine()
ORDER = np.random.default_rng(0).permutation(len(WINE.data))
NAMES = ("barolo", "grignolino", "barbera")
COLUMNS = [name.split("/")[0] for name in WINE.feature_names]
TRUTH = {f"W{i:03d}": NAMES[WINE.target[i]] for i in ORDER}


def write_csv(path, heading, rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([heading, *rows])
    return path


def wine_rows(order):
    return [[f"W{i:03d}", *WINE.data[i].tolist()] for i in order]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A pool of 118 wines, and 60 others with labels."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "pool.csv", ["bottle", *COLUMNS], wine_rows(ORDER[60:]))
    test = [[*row, TRUTH[row[0]]] for row in wine_rows(ORDER[:60])]
    write_csv(tmp_path / "test.csv", ["bottle", *COLUMNS, "label"], test)
    return tmp_path


def run(*flags, pool="pool.csv", ident=("--id", "bottle")):
    return main(["--pool", pool, "--labels", "labels.csv", *ident, *map(str, flags)], verb="active-learning")


def refused(capsys, *flags, **options):
    capsys.readouterr()
    assert run(*flags, **options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("active_learning.py: error: ")
    return error


def labels(path="labels.csv", key="bottle"):
    return LabelFile(Path(path), key).read()


def asked(path="next.csv"):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path="next.csv", truth=TRUTH, leave=(), delimiter=","):
    """What a person does to a file of questions in a spreadsheet."""
    rows = asked(path)
    for i, row in enumerate(rows):
        row["label"] = "" if i in leave else truth[row["bottle"]]
    write_csv(Path(path), list(rows[0]), [list(row.values()) for row in rows], delimiter)


def label_all(names):
    LabelFile(Path("labels.csv"), "bottle").append(names, [TRUTH[name] for name in names])


def some(n):
    return [f"W{i:03d}" for i in ORDER[60 : 60 + n]]


def answer(monkeypatch, *lines):
    """A terminal at which these lines are typed, and then the input ends; an exception is raised in its place."""
    left = list(lines)

    def typed(prompt=""):
        if not left:
            raise EOFError
        line = left.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", typed)
    return left


# --- the session ----------------------------------------------------------------------------------------------------


def test_first_rows_are_a_random_spread_and_it_says_so_and_what_next(folder, capsys):
    assert run("--query", 6) == 0
    out = capsys.readouterr().out
    assert "a random spread over the pool: there are no labels yet" in out
    command = "python scripts/active_learning.py --pool pool.csv --labels labels.csv --id bottle --query 6"
    assert f"{command} --ask" in out
    assert f"{command} --out next.csv" in out
    assert sum(name in out for name in TRUTH) == 6
    assert run("--query", 6) == 0
    assert capsys.readouterr().out == out  # only labels change anything
    assert not Path("labels.csv").exists()


def test_a_spreadsheet_goes_out_and_comes_back(folder, capsys):
    assert run("--query", 30, "--out", "next.csv") == 0
    first = asked()
    assert len(first) == 30
    assert list(first[0])[:2] == ["bottle", "label"]
    assert list(first[0])[5:] == COLUMNS
    fill(leave=(0, 3), delimiter=";")  # as some spreadsheets save
    assert run("--answers", "next.csv", "--query", 5, "--out", "next.csv") == 0
    out = capsys.readouterr().out
    assert "took 28 labels, 2 rows without a label were skipped" in out
    assert "out of fold" in out
    assert "no fair sample" in out
    assert dict(labels()) == {row["bottle"]: TRUTH[row["bottle"]] for i, row in enumerate(first) if i not in (0, 3)}
    second = asked()
    assert all(row["model_answer"] in NAMES and row["label"] == "" for row in second)
    assert not {row["bottle"] for row in second} & {name for name, _ in labels()}
    assert run("--query", 5, "--out", "other.csv") == 0
    assert asked("other.csv") == second
    assert run("--answers", "next.csv") == 0  # nothing is filled in
    assert len(labels()) == 28


def test_each_answer_at_the_terminal_is_on_disk_before_the_next(folder, monkeypatch, capsys):
    seen = []
    lines = iter(["a", "", "b", "u", "b2", "q"])

    def typed(prompt=""):
        seen.append(len(labels()))
        return next(lines)

    monkeypatch.setattr("builtins.input", typed)
    assert run("--query", 6, "--ask") == 0
    assert seen == [0, 1, 1, 2, 1, 2]  # of which the u took one back
    assert [label for _, label in labels()] == ["a", "b2"]
    out = capsys.readouterr().out
    assert "took back b" in out
    assert "2 labelled, 1 skipped" in out
    assert "[4 of 6]" in out


@pytest.mark.parametrize("end", [EOFError(), KeyboardInterrupt()])
def test_an_end_in_the_middle_loses_nothing_and_the_session_goes_on(folder, monkeypatch, capsys, end):
    assert run("--query", 4, "--out", "next.csv") == 0
    order = [row["bottle"] for row in asked()]
    answer(monkeypatch, "a", "b", end)
    assert run("--query", 4, "--ask") == (130 if isinstance(end, KeyboardInterrupt) else 0)
    assert labels() == [(order[0], "a"), (order[1], "b")]
    answer(monkeypatch, "a", "a")
    assert run("--query", 2, "--ask") == 0
    assert len(labels()) == 4


def test_undo_goes_back_over_skips_and_to_the_first_row_only(tmp_path, monkeypatch, capsys):
    table = write_csv(tmp_path / "p.csv", ["x"], [[i] for i in range(5)])
    book = LabelBook(pool_of(read_table(table)), tmp_path / "labels.csv", ["a", "u"])
    book.add(4, "a")
    answer(monkeypatch, ":u", "a", "", ":u", ":U", "u", "z", "a", ":q")
    told = ask(book, [0, 1, 2, 3], [Said("u", 0.9, "a", 0.1, 0.3)] * 4, str)
    out = capsys.readouterr().out
    assert "this is the first row" in out
    assert "expected one of the classes a, u, got 'z'" in out
    assert "the model was right on 1 of 1" in out
    assert (told.labelled, told.skipped, told.right) == (2, 0, 1)
    assert LabelFile(tmp_path / "labels.csv").read() == [("4", "a"), ("0", "u"), ("1", "a")]


def test_the_table_says_what_the_model_thinks_and_why(folder, capsys):
    label_all(some(30))
    assert run("--query", 3, "--strategy", "margin") == 0
    out = capsys.readouterr().out
    assert "margin: the two likeliest answers are nearest to each other there" in out
    assert all(word in out for word in ("answer", "next best", "entropy (nats)", " %", "-0."))
    assert "30 labels of 118 rows (barbera" in out


def test_answers_for_the_whole_pool_are_the_models(folder, capsys):
    names = some(40)
    label_all(names)
    assert run("--predict", "p.csv") == 0
    rows = asked("p.csv")
    assert [row["bottle"] for row in rows] == some(118)
    assert list(rows[0]) == ["bottle", "label", "probability", "entropy", "given"]
    assert [row["given"] for row in rows[:41]] == [TRUTH[name] for name in names] + [""]
    X = WINE.data[ORDER[60:]]
    model = make_estimator("logistic-regression").fit(X[:40], [TRUTH[name] for name in names])
    p = model.predict_proba(X)
    assert [row["label"] for row in rows] == model.classes_[p.argmax(1)].tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], p.max(1), atol=6e-5)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    np.testing.assert_allclose([float(row["entropy"]) for row in rows], entropy, atol=6e-5)


def test_the_curve_grows_with_labels_and_is_measured_on_the_test_file(folder, capsys):
    for n in (20, 40):
        label_all(some(n)[n - 20 :])
        assert run("--test", "test.csv") == 0
        assert run("--test", "test.csv") == 0  # said again, kept once
    out = capsys.readouterr().out
    rows = asked("labels.curve.csv")
    assert [row["n_labels"] for row in rows] == ["20", "40"]
    model = make_estimator("logistic-regression").fit(WINE.data[ORDER[60:100]], [TRUTH[name] for name in some(40)])
    truth = [NAMES[WINE.target[i]] for i in ORDER[:60]]
    p = model.predict_proba(WINE.data[ORDER[:60]])
    assert float(rows[1]["accuracy"]) == pytest.approx(model.score(WINE.data[ORDER[:60]], truth), abs=1e-5)
    columns = np.searchsorted(model.classes_, truth)
    assert float(rows[1]["nll"]) == pytest.approx(-np.log(p[np.arange(60), columns]).mean(), rel=1e-4)
    assert f"accuracy {100 * float(rows[1]['accuracy']):.1f} % (95 % interval" in out
    assert "<svg" in Path("labels.curve.svg").read_text()


def test_out_of_fold_no_row_is_judged_by_a_model_that_saw_it(folder, capsys):
    names = some(40)
    wrong = {name: str(np.random.default_rng(int(name[1:])).choice(NAMES)) for name in names}
    LabelFile(Path("labels.csv"), "bottle").append(names, [wrong[name] for name in names])
    assert run("--model", "random-forest") == 0  # which remembers whatever it is shown
    [row] = asked("labels.curve.csv")
    assert row["measured_on"] == "out-of-fold"
    assert float(row["accuracy"]) < 0.7


def test_stopping_rules_look_over_sessions(folder, capsys):
    label_all(some(30))
    assert run("--query", 2, "--stop", "labels:31", "stable:0.5:2") == 0
    assert "stopping rule" not in capsys.readouterr().out
    label_all(some(40)[30:])
    assert run("--query", 2, "--stop", "stable:0.5:1", "labels:41") == 0
    assert "the stopping rule stable:0.5 holds" in capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS)
def test_every_model_by_name_asks_and_answers(folder, model):
    label_all(some(24))
    quick = ["--n-epochs", 5, "--ent-coef", 0.1] if model == "entropic" else []
    assert run("--query", 3, "--model", model, "--predict", "p.csv", *quick) == 0
    given = [row["label"] for row in asked("p.csv")]
    assert np.mean([a == TRUTH[name] for a, name in zip(given, some(118), strict=True)]) > 0.4


def test_rows_without_ids_are_counted_and_labels_stay_as_written(folder, monkeypatch):
    answer(monkeypatch, "01", "1.0", "01")
    assert run("--query", 3, "--ask", ident=()) == 2  # the ids are texts and no feature
    assert run("--query", 3, "--ask", "--drop", "bottle", ident=()) == 0
    read = labels(key="row")
    assert [label for _, label in read] == ["01", "1.0", "01"]
    assert all(0 <= int(row) < 118 for row, _ in read)
    assert run("--query", 2, "--out", "next.csv", "--drop", "bottle", ident=()) == 0
    assert asked()[0]["model_answer"] in ("01", "1.0")


def test_parquet_and_npz_pools_ask_what_the_same_csv_asks(folder, capsys):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = some(118)
    X = WINE.data[ORDER[60:]]
    columns = {"bottle": ids, **{name: X[:, d] for d, name in enumerate(COLUMNS)}}
    pq.write_table(pa.table(columns), "pool.parquet")
    np.savez("pool.npz", X=X, bottle=np.array(ids), other=np.zeros(3))
    label_all(some(30))
    found = []
    for pool in ("pool.csv", "pool.parquet", "pool.npz"):
        assert run("--query", 7, "--out", "next.csv", pool=pool) == 0
        found.append([row["bottle"] for row in asked()])
    assert found[0] == found[1] == found[2]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--pool", "no.csv"], "which is not there"),
        (["--pool", "labels.txt"], "ending in .csv"),
        (["--query", 0], "query"),
        (["--query", 119], "between 1 and the 118 rows that have no label yet, got 119"),
        (["--ask"], "give --query N with --ask"),
        (["--query", 1, "--ask", "--out", "x.csv"], "expected --ask or --out"),
        (["--query", 1, "--out", "pool.csv"], "expected a file of its own"),
        (["--answers", "pool.csv"], "expected a file that --out wrote"),
        (["--answers", "no.csv"], "which is not there"),
        (["--answers", "test.csv"], "which is none of"),
        (["--predict", "p.csv"], "labels of at least 2 classes"),
        (["--strategy", "magin"], "did you mean 'margin'"),
        (["--stop", "stable:2"], "kappa between 0 and 1"),
        (["--model", "forest"], "model"),
        (["--ent-coef", "1"], "expected --model entropic"),
        (["--drop", "ashes"], "did you mean 'ash'"),
        (["--keep", "ashes"], "keep: expected one of its columns"),
        (["--show", "ashes"], "show: expected one of its columns"),
        (["--labels", "."], "expected the name of a file, got the folder ."),
        (["--query", 1, "--out", "."], "expected the name of a file, got the folder ."),
        (["--id", "bottles"], "did you mean 'bottle'"),
        (["--id", "label"], "heading of labels"),
        (["--classes", "a"], "at least 2 different labels"),
        (["--test", "pool.csv"], "file of its own"),
        (["--quary", "1"], "did you mean '--query'"),
        (["--drop", *COLUMNS], "at least one column of features"),
    ],
    ids=lambda value: " ".join(map(str, value))[:24] if isinstance(value, list) else None,
)
def test_mistakes_are_one_line_and_leave_nothing(folder, capsys, flags, said):
    Path("labels.txt").write_text("x\n1\n")
    before = sorted(folder.iterdir())
    assert said in refused(capsys, *flags)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("heading", ["label", "Labels", "target"])
def test_a_column_named_like_labels_is_refused_until_it_is_dropped_or_kept(folder, capsys, heading):
    rows = [[*row, i % 2] for i, row in enumerate(wine_rows(ORDER[60:]))]
    write_csv(folder / "pool.csv", ["bottle", *COLUMNS, heading], rows)
    error = refused(capsys, "--query", 3)
    assert f"got the column {heading!r}" in error
    assert f"--drop {heading}" in error
    assert run("--query", 3, "--drop", heading) == 0
    assert run("--query", 3, "--keep", heading) == 0


def test_an_array_of_labels_in_npz_is_refused(folder, capsys):
    np.savez("pool.npz", X=WINE.data, y=WINE.target)
    assert "got the column 'y'" in refused(capsys, "--query", 3, pool="pool.npz", ident=())
    assert run("--query", 3, "--drop", "y", pool="pool.npz", ident=()) == 0


def test_a_column_that_gives_labels_away_is_refused_from_twenty_labels_on(folder, capsys):
    code = {"barolo": 7, "grignolino": 1, "barbera": 3}
    rows = [[*row, code[TRUTH[row[0]]]] for row in wine_rows(ORDER[60:])]
    write_csv(folder / "pool.csv", ["bottle", *COLUMNS, "shelf"], rows)
    label_all(some(19))
    assert run("--query", 3, "--out", "next.csv") == 0
    fill()
    error = refused(capsys, "--answers", "next.csv")
    assert "'shelf', which gives away all 22 labels" in error
    assert len(labels()) == 22  # nothing entered is lost
    assert run("--query", 3, "--drop", "shelf") == 0
    assert run("--query", 3, "--keep", "shelf") == 0


def test_few_labels_that_differ_give_nothing_away(folder):
    rows = [[*row, int(i in (3, 7))] for i, row in enumerate(wine_rows(ORDER[60:]))]
    write_csv(folder / "pool.csv", ["bottle", *COLUMNS, "flag"], rows)
    LabelFile(Path("labels.csv"), "bottle").append(some(25), ["b" if i in (3, 7) else "a" for i in range(25)])
    assert run("--query", 3) == 0


def test_unknown_classes_are_refused_with_classes_given(folder, capsys, monkeypatch):
    assert run("--query", 3, "--out", "next.csv") == 0
    fill()
    error = refused(capsys, "--answers", "next.csv", "--classes", "barol", "grignolin", "barber")
    assert "expected one of the classes barol, grignolin, barber, got '" in error
    assert "did you mean" in error
    assert not Path("labels.csv").exists()
    label_all(some(3))
    assert "labels.csv: bottle W" in refused(capsys, "--classes", "a", "b")


def test_conflicting_answers_are_refused_and_none_is_taken(folder, capsys):
    label_all(some(3))
    write_csv(folder / "a.csv", ["bottle", "label"], [[some(5)[4], "barolo"], [some(1)[0], "other"]])
    assert "has the label" in refused(capsys, "--answers", "a.csv")
    assert len(labels()) == 3
    write_csv(folder / "a.csv", ["bottle", "label"], [[some(5)[4], "barolo"], [some(5)[4], "other"]])
    assert "already, in the same file, got other" in refused(capsys, "--answers", "a.csv")
    twice = [[some(5)[4], "barolo"]] * 2 + [[some(1)[0], TRUTH[some(1)[0]]]]
    write_csv(folder / "a.csv", ["bottle", "label"], twice)
    assert run("--answers", "a.csv") == 0
    assert "took 1 label, 2 were known" in capsys.readouterr().out
    with Path("labels.csv").open("a") as file:
        file.write(f"{some(1)[0]},other\n")
    assert "expected one label for bottle" in refused(capsys, "--query", 1)


def test_answers_that_were_not_taken_are_not_written_over(folder, capsys):
    assert run("--query", 3, "--out", "next.csv") == 0
    fill(delimiter=";")
    filled = Path("next.csv").read_text()
    error = refused(capsys, "--query", 3, "--out", "next.csv")
    assert "holds 3 labels that labels.csv has not" in error
    assert Path("next.csv").read_text() == filled
    Path("notes.csv").write_text("mine")
    assert "give another name" in refused(capsys, "--query", 3, "--out", "notes.csv")
    assert run("--answers", "next.csv", "--query", 3, "--out", "next.csv") == 0
    assert len(labels()) == 3


def test_a_pool_that_changed_is_noticed(folder, capsys):
    label_all(some(3))
    write_csv(folder / "less.csv", ["bottle", *COLUMNS], wine_rows(ORDER[62:]))
    assert f"got bottle '{some(1)[0]}', which is none of" in refused(capsys, "--query", 1, pool="less.csv")
    write_csv(folder / "more.csv", ["bottle", *COLUMNS], wine_rows(ORDER[50:]))
    assert run("--query", 1, pool="more.csv") == 0  # with ids a pool may grow


def test_row_numbers_of_another_pool_are_noticed(folder, capsys, monkeypatch):
    answer(monkeypatch, "a", "b")
    drop = ("--drop", "bottle")
    assert run("--query", 2, "--ask", *drop, ident=()) == 0
    write_csv(folder / "same.csv", ["bottle", *COLUMNS], wine_rows(ORDER[60:][::-1]))
    assert "row numbers are of another pool" in refused(capsys, "--query", 1, *drop, pool="same.csv", ident=())
    assert "expected the heading bottle,label" in refused(capsys, "--query", 1)  # named by ids of a sudden
    assert run("--query", 1, "--drop", "bottle", "ash", ident=()) == 0  # other features of the same pool
    Path("labels.csv").write_text("row,label\n118,a\n")
    assert "none of 0 to 117" in refused(capsys, "--query", 1, *drop, ident=())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {**row, "ash": ""}, "got none in column 'ash', row 3"),
        (lambda row: {**row, "bottle": ""}, "expected an id in every row, got none in column 'bottle', row 3"),
        (lambda row: {**row, "bottle": "W067"}, "an id of its own for each row"),
        (lambda row: {**row, "ash": "inf"}, "expected finite numbers"),
        (lambda row: {**row, "ash": "much"}, "got the text 'much' in row 3"),
    ],
)
def test_pools_with_flaws_are_refused(folder, capsys, change, said):
    rows = asked("pool.csv")
    rows[2] = change(rows[2])
    rows[5]["bottle"] = "W067" if rows[2]["bottle"] == "W067" else rows[5]["bottle"]
    write_csv(folder / "pool.csv", list(rows[0]), [list(row.values()) for row in rows])
    assert said in refused(capsys, "--query", 1)


def test_texts_of_every_kind_ask_to_be_dropped(folder, capsys):
    assert "leave it out by --drop bottle, or name it by --id" in refused(capsys, "--query", 1, ident=())


def test_one_class_only_is_asked_about_at_random_and_it_says_so(folder, capsys, monkeypatch):
    names = [name for name in some(118) if TRUTH[name] == "barolo"][:4]
    label_all(names)
    for extra in ((), ("--classes", *NAMES)):
        assert run("--query", 3, *extra) == 0
        out = capsys.readouterr().out
        assert "all 4 labels so far are of one class" in out
        assert "random" in out


def test_the_whole_pool_may_be_labelled(folder, capsys):
    label_all(some(118))
    assert run("--predict", "p.csv", "--test", "test.csv") == 0
    assert "the whole pool is labelled" in capsys.readouterr().out
    assert "the whole pool is labelled" in refused(capsys, "--query", 1)


def test_test_files_have_the_columns_and_labels_of_the_pool(folder, capsys):
    label_all(some(20))
    rows = asked("test.csv")
    write_csv(folder / "short.csv", ["bottle", *COLUMNS[1:], "label"],
              [[v for k, v in row.items() if k != COLUMNS[0]] for row in rows])  # fmt: skip
    assert "features of the pool: expected one of its columns" in refused(capsys, "--test", "short.csv")
    write_csv(folder / "gap.csv", list(rows[0]), [list({**row, "label": ""}.values()) for row in rows])
    assert "expected a label in every row" in refused(capsys, "--test", "gap.csv")
    write_csv(folder / "own.csv", ["bottle", *COLUMNS, "label"], [[*r, "barolo"] for r in wine_rows(ORDER[60:63])])
    assert run("--test", "own.csv") == 0
    assert "3 of the 3 rows of own.csv are in the pool too" in capsys.readouterr().err
    write_csv(folder / "else.csv", list(rows[0]), [list({**row, "label": "1.0"}.values()) for row in rows])
    assert "expected labels such as" in refused(capsys, "--test", "else.csv")


def test_a_file_of_labels_that_is_none_is_refused(folder, capsys):
    Path("labels.csv").write_bytes(b"bottle,label\nW001,caf\xe9\n")
    assert "in UTF-8" in refused(capsys, "--query", 1)
    Path("labels.csv").write_bytes(b"bottle,label\nW001,")  # cut off by a crash
    assert run("--query", 1) == 0


def test_help_shows_both_uses(capsys):
    assert main([], verb="active-learning") == 0
    out = capsys.readouterr().out
    assert "--pool FILE" in out
    assert "--data NAME" in out
    with pytest.raises(SystemExit) as end:
        main(["--pool", "--help"], verb="active-learning")
    assert end.value.code == 0
    assert "--ent-coef" in capsys.readouterr().out


# --- the parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_models_by_name_are_seeded_and_standardized(name):
    X, y = WINE.data, WINE.target
    fit = FitConfig(n_epochs=3) if name == "entropic" else None
    one, same = (make_estimator(name, fit, seed=3).fit(X, y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert hasattr(make_estimator(name, fit), "steps") == (name not in ("random-forest", "naive-bayes"))
    assert not hasattr(make_estimator(name, fit, standardize=False), "steps")


def test_models_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'random-forest'"):
        make_estimator("random-forrest")
    with pytest.raises(ConfigError, match="expected the model entropic"):
        make_estimator("svm", FitConfig())


@pytest.mark.slow
@pytest.mark.parametrize("half", [b"", b"barb"], ids=["between", "within"])
def test_a_killed_session_keeps_all_that_was_entered(folder, half):
    command = [sys.executable, ROOT / "scripts" / "active_learning.py", "--pool", "pool.csv", "--labels", "labels.csv",
               "--id", "bottle", "--query", "5", "--ask"]  # fmt: skip
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=here) as process:
        process.stdin.write(b"barolo\ngrignolino\n")
        process.stdin.flush()
        until = time.monotonic() + 60
        while len(labels()) < 2 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.stdin.write(half)
        process.stdin.flush()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [label for _, label in labels()] == ["barolo", "grignolino"]
    done = subprocess.run(command, input=b"barbera\n", env=here, capture_output=True, check=True)
    assert b"1 labelled" in done.stdout
    assert [label for _, label in labels()] == ["barolo", "grignolino", "barbera"]
