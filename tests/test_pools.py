"""Tables without labels: the features of a pool, and the same ones of other tables."""

import csv

import numpy as np
import pytest

from entropic_rl.datasets.pools import pool_of, read_table
from entropic_rl.datasets.sources import load
from entropic_rl.errors import ConfigError


def write_csv(path, heading, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


def test_categories_of_a_test_file_are_those_of_the_pool(tmp_path):
    pool = pool_of(read_table(write_csv(tmp_path / "p.csv", ["c", "x"], [["r", 1], ["g", 2], ["r", 3]])))
    assert pool.feature_names == ("c=g", "c=r", "x")
    other = read_table(write_csv(tmp_path / "t.csv", ["x", "c"], [[5, "r"], [6, "blue"]]))
    np.testing.assert_array_equal(pool.features_of(other), [[0, 1, 5], [0, 0, 6]])
    with pytest.raises(ConfigError, match="expected numbers in column 'x', as in the pool"):
        pool.features_of(read_table(write_csv(tmp_path / "u.csv", ["x", "c"], [["five", "r"]])))


def test_features_of_a_pool_are_those_of_the_same_table_with_labels(tmp_path):
    rows = [[f"a{i}", i * 0.37 % 1, "xyz"[i % 3], "uv"[i % 2]] for i in range(12)]
    write_csv(tmp_path / "all.csv", ["name", "x", "c", "kind"], rows)
    pool = pool_of(read_table(tmp_path / "all.csv"), id_column="name", drop=["kind"])
    data = load(tmp_path / "all.csv", target="kind", group="name")
    np.testing.assert_array_equal(pool.X, data.X)
    assert pool.feature_names == data.feature_names
    assert pool.rows["a7"] == 7
