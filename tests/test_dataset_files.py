"""Files as labelled data, and how rows are dealt to splits."""

from types import SimpleNamespace

import numpy as np
import pytest

from entropic_rl.datasets import folds, from_arrays, load, split
from entropic_rl.errors import ConfigError

TABLE = """age,city,patient,sick
61,Ulm,p1,yes
42.5,Bonn,p1,no
-3e1,"Ulm",p2,no
7,Köln,p3,yes
"""


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv", **options):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", **options)
        return path

    return write


# CSV


def test_csv_by_hand(table):
    data = load(table(TABLE), target="sick", group="patient")
    assert data.name == "table.csv"
    assert data.feature_names == ("age", "city=Bonn", "city=Köln", "city=Ulm")
    assert data.X.tolist() == [[61, 0, 0, 1], [42.5, 1, 0, 0], [-30, 0, 0, 1], [7, 0, 1, 0]]
    assert data.classes == ("no", "yes")
    assert data.y.tolist() == [1, 0, 0, 1]
    assert data.groups.tolist() == [0, 0, 1, 2]
    assert data.summary() == "table.csv: 4 rows, 4 columns, 2 classes (no 50.0%, yes 50.0%); 3 groups"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_and_line_ends(table, delimiter):
    text = "\ufeff" + TABLE.replace(",", delimiter).replace("\n", "\r\n") + "\r\n"
    data = load(str(table(text, "table.tsv", newline="")), target="sick")
    assert data.X.shape == (4, 7)
    assert data.feature_names[0] == "age"


def test_numbers_as_labels_are_integers_where_they_are_whole(table):
    assert load(table("x,y\n1,2\n2,1.0\n3,2\n4,1\n"), target="y").classes == (1, 2)
    assert load(table("x,y\n1,2\n2,b\n3,2\n4,b\n"), target="y").classes == ("2", "b")


def test_categories_keep_their_spelling(table):
    data = load(table("size,y\n2,a\n2b,a\n2b,b\n2,b\n2b,a\n"), target="y")
    assert data.feature_names == ("size=2", "size=2b")
    assert data.X[:, 0].tolist() == [1, 0, 0, 1, 0]


def test_noise_and_thinning_apply_to_files(table):
    rows = "".join(f"{i},{'ab'[i % 2]}\n" for i in range(200))
    data = load(table("x,y\n" + rows), target="y", imbalance=4.0, n=100, label_noise=0.2)
    assert np.bincount(data.clean_y).tolist() == [80, 20]
    assert 5 < (data.y != data.clean_y).sum() < 40


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TABLE, {}, "expected the column of labels as target, got none; its columns are age, city, patient, sick"),
        (TABLE, {"target": "sik"}, "target: expected one of its columns, got 'sik'; did you mean 'sick'?"),
        (TABLE, {"target": "zz"}, "target: expected one of its columns, got 'zz'; they are age, city, patient, sick"),
        (TABLE, {"target": "sick", "group": "patients"}, "group: expected one of its columns, got 'patients'; did you "
         "mean "
         "'patient'?"),
        (TABLE, {"target": "sick", "group": "sick"}, "expected different columns as target and group, got 'sick' for "
         "both"),
        (TABLE.replace("42.5", ""), {"target": "sick"}, "expected a value in every row, got none in column 'age', row "
         "2 (the "
         "first is 1), and 0 more of this column; fill or drop them"),
        (TABLE.replace("42.5", "NaN"), {"target": "sick"}, "got none in column 'age', row 2"),
        (TABLE.replace("yes", "?"), {"target": "sick"}, "got none in column 'sick', row 1 (the first is 1), and 1 "
         "more"),
        (TABLE.replace("42.5", "inf"), {"target": "sick"}, "expected finite numbers, got inf in column 'age', row 2"),
        (TABLE.replace("42.5", "4o"), {"target": "sick"}, "expected numbers in column 'age', got the text '4o' in row "
         "2 (the"),
        (TABLE.replace("42.5", "4_2"), {"target": "sick"}, "expected numbers in column 'age', got the text '4_2' in "
         "row 2"),
        (TABLE, {"target": "patient"}, "expected at least two rows per class on average, got 3 different labels in 4 "
         "rows"),
        (TABLE.replace("no", "yes"), {"target": "sick"}, "expected at least two classes, got ['yes'] alone"),
        ("name,y\nann,1\nbob,0\ncid,1\ndan,0\n", {"target": "y"}, "expected numbers or at most 50 categories in column "
         "'name', got 4 different texts such as 'ann' in 4 rows; leave the column out, or name it as group"),
        (TABLE, {"target": 3}, "target: expected one of its columns, got 3; they are age, city, patient, sick"),
        (",a,y\n0,1,0\n1,2,1\n", {"target": "y"}, "expected a name for each column, got none for column 1; row "
         "numbers are"),
        ("a;y\n1,5;0\n2;1\n2,5;0\n3;1\n", {"target": "y"}, "expected numbers with decimal points in column 'a', got "
         "'1,5' "
         "in row 1"),
        ("a,y\n1,0\n2\n", {"target": "y"}, "expected 2 values as in the heading, got 1 in row 2"),
        ("a,a,y\n1,1,0\n2,2,1\n", {"target": "y"}, "expected a name of its own for each column, got 'a' more than "
         "once"),
        ("1,2,0\n2,2,1\n", {"target": "y"}, "expected a heading row with the names of columns, got numbers: '1,2,0'"),
        ("a,y\n", {"target": "y"}, "expected rows below the heading, got none"),
        ("", {"target": "y"}, "expected a table with a heading row, got an empty file"),
        ("y\n1\n0\n", {"target": "y"}, "expected a column of features beside target and group, got none"),
        ('a,y\n"1,0\n2,1\n', {"target": "y"}, "expected a table with a heading row, got unexpected end of data"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_one_sentence(table, text, options, message):
    with pytest.raises(ConfigError) as error:
        load(table(text), **options)
    assert str(error.value).startswith("table.csv: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a file of data, got .*nowhere\.csv, which is not there"):
        load(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="which is a folder"):
        load(tmp_path / "folder.csv")
    (tmp_path / "latin.csv").write_bytes("stadt,y\nKöln,1\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.csv: expected a text file in UTF-8, got "):
        load(tmp_path / "latin.csv", target="y")


# npz


def test_npz_by_default_and_by_name(tmp_path):
    X, y = np.arange(12).reshape(6, 2, 1).astype(np.uint8), np.array(list("abcabc"))
    np.savez(tmp_path / "a.npz", X=X, y=y, owner=[1, 1, 2, 2, 3, 3], other=[0, 1, 0, 1, 0, 1])
    data = load(tmp_path / "a.npz", group="owner")
    assert data.classes == ("a", "b", "c")
    assert data.X.tolist() == X.reshape(6, 2).tolist()
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert load(tmp_path / "a.npz", target="other").y.tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(
        ConfigError, match=r"a\.npz: target: expected one of the arrays X, y, owner, other, got 'othr'; did"
    ):
        load(tmp_path / "a.npz", target="othr")


def test_npz_that_is_none_or_holds_objects(tmp_path):
    (tmp_path / "b.npz").write_text("no archive")
    np.savez(tmp_path / "c.npz", X=np.array([[None]], dtype=object), y=[1])
    np.savez(tmp_path / "d.npz", features=[[1.0]], y=[1])
    np.save(tmp_path / "e.npy", np.zeros(3))
    (tmp_path / "e.npy").rename(tmp_path / "e.npz")
    for name in "bce":
        with pytest.raises(
            ConfigError, match=f"{name}.npz: expected arrays X and y saved by numpy.savez, without objects"
        ):
            load(tmp_path / f"{name}.npz")
    with pytest.raises(ConfigError, match=r"d\.npz: X: expected one of the arrays features, y, got 'X'"):
        load(tmp_path / "d.npz")


def test_npz_that_is_larger_than_the_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", X=np.zeros((10**5, 2)), y=np.zeros(10**5))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))
    with pytest.raises(ConfigError, match=r"once unpacked, more than the 0\.0 GB that are free"):
        load(tmp_path / "a.npz")


# Parquet


def test_parquet_equals_csv(table, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "age": [61.0, 42.5, -30.0, 7.0],
        "city": ["Ulm", "Bonn", "Ulm", "Köln"],
        "patient": ["p1", "p1", "p2", "p3"],
        "sick": ["yes", "no", "no", "yes"],
    }
    path = tmp_path / "a=b" / "table.parquet"
    path.parent.mkdir()
    parquet.write_table(pyarrow.table(columns), path)
    one, other = load(path, target="sick", group="patient"), load(table(TABLE), target="sick", group="patient")
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.groups, other.groups)
    assert one.feature_names == other.feature_names
    columns["age"][1] = None
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(ConfigError, match="got none in column 'age', row 2"):
        load(path, target="sick")
    parquet.write_table(pyarrow.table(columns | {"age": [[1], [2], [3], [4]]}), path)
    with pytest.raises(ConfigError, match="expected numbers or texts, got list in column 'age'; turn the column into"):
        load(path, target="sick")
    path.write_text("no parquet")
    with pytest.raises(ConfigError, match=r"table\.parquet: expected a Parquet file, got "):
        load(path, target="sick")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    import sys

    class Nothing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "pyarrow":
                raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Nothing(), *sys.meta_path])
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ConfigError, match=r'are read by pyarrow, which is not installed; run: pip install "entropic-rl\[p'
    ):
        load(tmp_path / "a.parquet", target="y")


# Splits


def dealt(parts, n):
    """Every row on one side."""
    rows = np.concatenate(parts)
    assert len(rows) == n
    assert np.array_equal(np.sort(rows), np.arange(n))


@pytest.mark.parametrize("source", ["digits", "breast_cancer", "wine", "blobs"])
@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.5, 0.1, 0.4), (0.75, 0.0, 0.25), (1 / 3, 1 / 3, 1 / 3)])
def test_split_is_complete_and_stratified(source, fractions):
    data = load(source, label_noise=0.2)
    parts = split(data, fractions, seed=3)
    dealt(parts, len(data))
    counts = np.bincount(data.clean_y)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(data)) < 2
        held = np.bincount(data.clean_y[part], minlength=len(counts))
        assert (np.abs(held - fraction * counts) < 2).all()
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("k", [2, 5, 10])
def test_folds_hold_as_much_of_each_class_as_scikit_learns(k):
    from sklearn.model_selection import StratifiedKFold

    data = load("wine")
    pairs = folds(data, k, seed=1)
    dealt([test for _, test in pairs], len(data))
    theirs = StratifiedKFold(k, shuffle=True, random_state=0).split(data.X, data.y)
    for (train, test), (_, other) in zip(pairs, theirs, strict=True):
        dealt([train, test], len(data))
        assert (np.abs(np.bincount(data.y[test]) - np.bincount(data.y[other])) <= 2).all()
        assert abs(len(test) - len(other)) <= 1


def test_rows_of_a_class_fall_on_every_side_equally_often():
    data = from_arrays(np.zeros((20, 1)), [0, 1] * 10)
    held = np.mean([np.isin(np.arange(20), split(data, seed=seed).test) for seed in range(400)], 0)
    assert np.abs(held - 0.2).max() < 4 * np.sqrt(0.16 / 400)


def test_split_does_not_see_label_noise_and_follows_the_seed():
    clean, noisy = load("wine"), load("wine", label_noise=0.4)
    for one, other in zip(split(clean, seed=5), split(noisy, seed=5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(split(clean, seed=5).test, split(clean, seed=6).test)
    np.testing.assert_array_equal(folds(clean, 3, seed=1)[0][1], folds(noisy, 3, seed=1)[0][1])


def grouped(seed, n_groups=60, n=1200):
    rng = np.random.default_rng(seed)
    groups = rng.choice(n_groups, n, p=rng.dirichlet(np.full(n_groups, 3.0)))
    bias = rng.random(n_groups)
    return from_arrays(np.zeros((n, 1)), (rng.random(n) < bias[groups]).astype(int), groups=groups)


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together_and_fractions_are_met(seed):
    data = grouped(seed)
    parts = split(data, seed=seed)
    dealt(parts, len(data))
    owners = [set(data.groups[part]) for part in parts]
    assert sum(map(len, owners)) == len(set.union(*owners))
    share = data.y.mean()
    for part, fraction in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert len(part) / len(data) == pytest.approx(fraction, abs=0.03)
        assert data.y[part].mean() == pytest.approx(share, abs=0.04)


def test_grouped_folds_are_about_as_even_as_scikit_learns():
    from sklearn.model_selection import StratifiedGroupKFold

    def unevenness(data, tests):
        held = np.array([np.bincount(data.y[test], minlength=2) for test in tests])
        return (held / held.sum(0)).std(0).max()

    ours, theirs = [], []
    for seed in range(10):
        data = grouped(seed)
        tests = [test for _, test in folds(data, 4, seed=seed)]
        dealt(tests, len(data))
        splitter = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        ours.append(unevenness(data, tests))
        theirs.append(unevenness(data, [test for _, test in splitter.split(data.X, data.y, data.groups)]))
    assert np.mean(ours) < 1.5 * np.mean(theirs)


@pytest.mark.parametrize(
    ("labels", "groups", "call", "message"),
    [
        ("aaaabb", None, split, "expected at least 3 rows of every class, one for each of train, validation, test, "
         "got 2 of "
         "'b'; add rows, or use fewer sides"),
        ("aaaabbb", None, lambda d: folds(d, 4), "expected at least 4 rows of every class, one for each of fold 1, "
         "fold 2, "
         "fold 3, fold 4, got 3 of 'b'"),
        ("a" * 100 + "bbb", None, lambda d: split(d, (0.9, 0.05, 0.05)), "expected every class on every side, got "
         "none of "
         "'b' (3 rows) for "),
        ("aaabbb", [1, 2, 3, 1, 2, 2], split, "expected every class in at least 3 groups, one for each of train, "
         "validation, "
         "test, got 'b' in 2; add groups, or use fewer sides"),
        ("aaabbb", None, lambda d: folds(d, 1), "folds: expected a whole number, at least 2, got 1"),
        ("aaabbb", None, lambda d: folds(d, 2.5), "folds: expected a whole number, at least 2, got 2.5"),
        ("aaabbb", None, lambda d: split(d, (0.5, 0.5, "x")), "that sum to 1, train above 0, got (0.5, 0.5, 'x')"),
        ("aaabbb", None, lambda d: split(d, (0.5, 0.5)), "expected three numbers (train, validation, test) that sum "
         "to 1, "
         "train above 0, got (0.5, 0.5)"),
        ("aaabbb", None, lambda d: split(d, (0.5, 0.2, 0.2)), "got (0.5, 0.2, 0.2)"),
        ("aaabbb", None, lambda d: split(d, (0.0, 0.5, 0.5)), "train above 0, got (0.0, 0.5, 0.5)"),
        ("aaabbb", None, lambda d: split(d, (float("nan"), 0.5, 0.5)), "got (nan, 0.5, 0.5)"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_are_refused_in_one_sentence(labels, groups, call, message):
    data = from_arrays(np.zeros((len(labels), 1)), list(labels), groups=groups)
    with pytest.raises(ConfigError) as error:
        call(data)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
