"""What is read back from the directories of a comparison, finished, failed, diverged or torn."""

import json
import math

import numpy as np
import pytest

from entropic_rl.compare.outcomes import read_outcomes, read_sessions
from entropic_rl.errors import RunDirectoryError
from tests.synthetic import SESSION, row, write_failure, write_plan, write_run


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path)


def outcome_of(plan, out, which=0):
    return read_outcomes(plan, out)[which]


def test_there_is_an_outcome_for_every_cell_in_the_order_of_the_plan(plan, tmp_path):
    outcomes = read_outcomes(plan, tmp_path)
    assert [(o.group, o.cell.run.seed) for o in outcomes] == [("0", 0), ("0", 1), ("0.1", 0), ("0.1", 1)]


def test_run_without_a_summary_is_not_trained_yet(plan, tmp_path):
    found = outcome_of(plan, tmp_path)
    assert (found.error, found.summary, found.rows, found.tables) == ("not trained yet", {}, [], {})


def test_half_finished_run_is_not_trained_yet_whatever_its_record_holds(plan, tmp_path):
    cell = plan.cells(tmp_path)[0]
    write_run(cell, 1.0)
    (cell.directory / "summary.json").unlink()
    found = outcome_of(plan, tmp_path)
    assert found.error == "not trained yet"
    assert found.rows == []


def test_failed_run_says_why(plan, tmp_path):
    write_failure(plan.cells(tmp_path)[0], "killed by signal 9")
    assert outcome_of(plan, tmp_path).error == "killed by signal 9"


def test_finished_run_has_its_summary_its_rows_and_no_error(plan, tmp_path):
    write_run(plan.cells(tmp_path)[0], 7.5, rows=[row(100, 1.0), row(200, 2.0)])
    found = outcome_of(plan, tmp_path)
    assert found.error is None
    assert found.summary["eval/mean_reward"] == 7.5
    assert [one["global_step"] for one in found.rows] == [100.0, 200.0]


def test_run_that_finished_in_a_second_attempt_is_finished(plan, tmp_path):
    cell = plan.cells(tmp_path)[0]
    write_run(cell, 1.0)
    (cell.directory / "failed.json").write_text('{"error": "the first time"}')
    assert outcome_of(plan, tmp_path).error is None


@pytest.mark.parametrize("metric", ["score", "loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_run_whose_return_or_loss_is_no_number_has_diverged(plan, tmp_path, metric, value):
    write_run(plan.cells(tmp_path)[0], **{metric: value})
    error = outcome_of(plan, tmp_path).error
    assert error is not None
    assert "diverged" in error
    assert {"score": "eval/mean_reward", "loss": "train/loss"}[metric] in error


def test_run_of_an_agent_that_records_no_loss_has_not_diverged(plan, tmp_path):
    write_run(plan.cells(tmp_path)[0], loss=...)  # left out of the summary
    assert outcome_of(plan, tmp_path).error is None


def test_other_numbers_that_are_not_finite_do_not_break_a_run(plan, tmp_path):
    write_run(plan.cells(tmp_path)[0], first_reward=math.nan, **{"train/explained_variance": math.nan})
    found = outcome_of(plan, tmp_path)
    assert found.error is None
    assert found.summary["explore/first_reward"] is None


def test_curve_has_the_steps_at_which_a_metric_was_recorded(plan, tmp_path):
    rows = [row(100, 1.0, entropy=0.5), row(200, 2.0), row(300, math.nan, entropy=0.25)]
    write_run(plan.cells(tmp_path)[0], rows=rows)
    found = outcome_of(plan, tmp_path)
    assert [part.tolist() for part in found.curve("explore/policy_entropy")] == [[100.0, 300.0], [0.5, 0.25]]
    assert [part.tolist() for part in found.curve("rollout/ep_rew_mean")] == [[100.0, 200.0], [1.0, 2.0]]
    assert [part.tolist() for part in found.curve("train/unheard_of")] == [[], []]


def test_torn_last_line_of_a_record_is_left_out(plan, tmp_path):
    cell = plan.cells(tmp_path)[0]
    write_run(cell, rows=[row(100, 1.0), row(200, 2.0)])
    with (cell.directory / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 300.0, "roll')
    assert outcome_of(plan, tmp_path).curve("rollout/ep_rew_mean")[0].tolist() == [100.0, 200.0]


def test_tables_are_read_where_there_are_some(plan, tmp_path):
    first, second, *_ = plan.cells(tmp_path)
    write_run(first, tables={"visits": np.array([3, 0, 1]), "layout": np.array([[0, 1, 2]])})
    write_run(second)
    with_tables, without, *_ = read_outcomes(plan, tmp_path)
    assert with_tables.tables["visits"].tolist() == [3, 0, 1]
    assert with_tables.tables["layout"].tolist() == [[0, 1, 2]]
    assert without.tables == {}


def test_tables_that_would_have_to_be_unpickled_are_refused(plan, tmp_path):
    cell = plan.cells(tmp_path)[0]
    write_run(cell)
    np.savez(cell.directory / "exploration.npz", visits=np.array([object()]), allow_pickle=True)
    with pytest.raises(RunDirectoryError, match=r"cannot read .*exploration\.npz: Object arrays cannot be loaded"):
        outcome_of(plan, tmp_path)


def test_damaged_summary_is_named(plan, tmp_path):
    cell = plan.cells(tmp_path)[0]
    write_run(cell)
    (cell.directory / "summary.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"ent_coef_0.*summary\.json"):
        outcome_of(plan, tmp_path)


def test_sessions_are_read_in_order_up_to_a_torn_line(tmp_path):
    assert read_sessions(tmp_path) == []
    lines = [json.dumps(SESSION), json.dumps(SESSION | {"n_cells": 1}), '{"seconds": 1']
    (tmp_path / "sessions.jsonl").write_text("\n".join(lines))
    assert [session["n_cells"] for session in read_sessions(tmp_path)] == [4, 1]
