"""Jobs that were begun stay what they are, until they are finished."""

import json
from pathlib import Path

import pytest

from entropic_rl.agents.config import PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.compare.jobs import Job
from entropic_rl.compare.unfinished import forget, noted, unfinished
from entropic_rl.config import RunConfig


@pytest.fixture
def cells(tmp_path):
    return [
        Cell("ppo", RunConfig(env="x", seed=seed), PPOConfig(), tmp_path / "cells" / f"seed_{seed}")
        for seed in range(3)
    ]


def finish(cell):
    cell.directory.mkdir(parents=True)
    (cell.directory / "summary.json").write_text("{}")


def test_cells_that_began_together_go_on_together(cells, tmp_path):
    first, second = noted(Job(tuple(cells[:2]), 7), tmp_path), noted(Job((cells[2],), 7), tmp_path)
    found = unfinished(cells, tmp_path)
    assert {job.checkpoints: job.cells for job in found} == {job.checkpoints: job.cells for job in (first, second)}
    assert all(job.resume for job in found)


def test_job_of_which_one_cell_has_finished_goes_on_whole(cells, tmp_path):
    noted(Job(tuple(cells), 7), tmp_path)
    finish(cells[0])
    [job] = unfinished(cells, tmp_path)
    assert job.cells == tuple(cells)


def test_finished_job_leaves_nothing(cells, tmp_path):
    noted(Job((cells[0],), 7), tmp_path)
    finish(cells[0])
    assert unfinished(cells, tmp_path) == []
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"cells": 3}', '{"cells": ["another"]}', '{"cells": [["seed_0"]]}', '{"cells": []}']
)
def test_damaged_note_is_forgotten(cells, tmp_path, text):
    job = noted(Job((cells[0],), 7), tmp_path)
    (Path(job.checkpoints) / "job.json").write_text(text)
    assert unfinished(cells, tmp_path) == []
    assert not Path(job.checkpoints).exists()


def test_forgetting_one_leaves_the_others(cells, tmp_path):
    first, second = noted(Job((cells[0],), 7), tmp_path), noted(Job((cells[1],), 7), tmp_path)
    forget(first)
    assert not first.checkpoints.exists()
    assert json.loads((second.checkpoints / "job.json").read_text()) == {"cells": ["seed_1"]}


def test_agents_of_others_have_no_checkpoints(cells, tmp_path):
    stock = Cell("sb3:PPO", cells[0].run, cells[0].config, cells[0].directory)
    assert noted(Job((stock,), 7), tmp_path).checkpoints is None
    assert not (tmp_path / "checkpoints").exists()
