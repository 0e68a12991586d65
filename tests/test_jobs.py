"""Which cells train together: every one exactly once, only what fits together, in no more memory than there is."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropic_rl.agents.config import AGENT_CONFIGS, A2CConfig, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.compare.jobs import make_jobs
from entropic_rl.compare.memory import available_memory, estimate_batch, n_cores
from entropic_rl.config import RunConfig
from entropic_rl.environments import make_env
from entropic_rl.errors import ConfigError
from entropic_rl.spaces import action_spec, observation_spec

RUN = RunConfig(env="CartPole-v1", n_envs=2)
PPO = PPOConfig(n_steps=32, batch_size=32)
ROOMY = 10**12


def cell(number=0, agent="ppo", config=PPO, **run):
    return Cell(agent, replace(RUN, seed=number, **run), config, Path(f"cell-{number}"))


def seeds(jobs):
    """The seeds of each job's cells."""
    return [[one.run.seed for one in job.cells] for job in jobs]


def one_each(cells):
    return len(cells)


def jobs_of(cells, *, parallel="auto", n_workers=2, memory=ROOMY, estimate=one_each):
    return make_jobs(cells, estimate, parallel=parallel, n_workers=n_workers, memory=memory)


# Spreading


def test_batch_keeps_all_that_agree_together():
    assert seeds(jobs_of([cell(i) for i in range(5)], parallel="batch", n_workers=4)) == [[0, 1, 2, 3, 4]]


def test_process_gives_every_cell_a_job():
    assert seeds(jobs_of([cell(i) for i in range(3)], parallel="process")) == [[0], [1], [2]]


def test_auto_deals_a_batch_out_to_all_workers():
    assert seeds(jobs_of([cell(i) for i in range(5)], n_workers=2)) == [[0, 2, 4], [1, 3]]


def test_every_worker_has_some_seeds_of_every_coefficient():
    cells = [cell(seed, config=replace(PPO, ent_coef=coef)) for coef in (0.0, 0.1, 0.3) for seed in range(4)]
    for job in jobs_of(cells, n_workers=2):
        assert Counter(one.config.ent_coef for one in job.cells) == {0.0: 2, 0.1: 2, 0.3: 2}


def test_as_many_structures_as_workers_are_not_dealt_out():
    cells = [cell(i, config=replace(PPO, n_steps=steps)) for i, steps in enumerate([32, 64] * 3)]
    assert seeds(jobs_of(cells, n_workers=2)) == [[0, 2, 4], [1, 3, 5]]


def test_one_worker_has_one_job():
    assert seeds(jobs_of([cell(i) for i in range(3)], n_workers=1)) == [[0, 1, 2]]


def test_workers_beyond_the_cells_have_none():
    assert seeds(jobs_of([cell(0), cell(1)], n_workers=8)) == [[0], [1]]


def test_no_cells_make_no_jobs():
    assert jobs_of([]) == []


@pytest.mark.parametrize("parallel", ["auto", "batch", "process"])
def test_cells_of_stable_baselines3_train_alone(parallel):
    cells = [cell(i, agent="sb3:PPO") for i in range(3)]
    assert seeds(jobs_of(cells, parallel=parallel, n_workers=1)) == [[0], [1], [2]]


@pytest.mark.parametrize("agent", AGENT_CONFIGS)
def test_numbers_that_an_agent_takes_per_run_share_a_job(agent):
    config = AGENT_CONFIGS[agent]()
    texts = {"entropy_in": ("loss", "reward"), "ent_coef_unit": ("auto", "reward")}
    for field in config.BATCHABLE:
        values = texts.get(field, (0.25, 0.5))
        cells = [cell(i, agent, replace(config, **{field: value})) for i, value in enumerate(values)]
        assert len(jobs_of(cells, parallel="batch")) == 1, field


@pytest.mark.parametrize(
    "other",
    [
        cell(1, config=replace(PPO, n_steps=64)),
        cell(1, config=replace(PPO, batch_size=16)),
        cell(1, config=replace(PPO, n_epochs=1)),
        cell(1, config=replace(PPO, net_arch=(64,))),
        cell(1, config=replace(PPO, activation="relu")),
        cell(1, config=replace(PPO, target_kl=0.01)),
        cell(1, config=replace(PPO, clip_range_vf=1.0)),
        cell(1, config=replace(PPO, normalize_obs=True)),
        cell(1, agent="a2c", config=A2CConfig(n_steps=32)),
        cell(1, agent="sb3:PPO"),
        cell(1, env="Acrobot-v1"),
        cell(1, n_envs=4),
        cell(1, env_kwargs={"sutton_barto_reward": True}),
        cell(1, total_timesteps=7),
    ],
)
@pytest.mark.parametrize("parallel", ["auto", "batch", "process"])
def test_cells_of_different_structure_never_share_a_job(other, parallel):
    assert sorted(seeds(jobs_of([cell(0), other], parallel=parallel, n_workers=1))) == [[0], [1]]


STRUCTURES = st.sampled_from(
    [
        ("ppo", PPO), ("ppo", replace(PPO, ent_coef=0.1)), ("ppo", replace(PPO, ent_coef="linear:0.1:0")),
        ("ppo", replace(PPO, n_steps=64)), ("a2c", A2CConfig()), ("a2c", A2CConfig(gamma=0.5)), ("sb3:PPO", PPO),
    ]
)  # fmt: skip


@given(
    st.lists(STRUCTURES, min_size=1, max_size=20),
    st.sampled_from(["auto", "batch", "process"]),
    st.integers(1, 6),
    st.integers(1, 12),
)
def test_every_cell_is_in_exactly_one_job_that_fits(kinds, parallel, n_workers, room):
    cells = [cell(i, agent, config) for i, (agent, config) in enumerate(kinds)]
    jobs = jobs_of(cells, parallel=parallel, n_workers=n_workers, memory=room * n_workers)
    assert sorted(number for own in seeds(jobs) for number in own) == list(range(len(cells)))
    for job in jobs:
        numbers = getattr(job.cells[0].config, "NUMBERS", ())
        free = dict.fromkeys([*numbers, *(["ent_coef"] if numbers else [])], 0.5)
        assert len({(one.agent, replace(one.config, **free)) for one in job.cells}) == 1
        assert len(job.cells) == 1 or not job.cells[0].agent.startswith("sb3:")
        assert job.memory == len(job.cells) <= room


# Memory


def test_batch_that_does_not_fit_is_halved_until_it_does():
    jobs = jobs_of([cell(i) for i in range(8)], parallel="batch", n_workers=1, memory=3)
    assert seeds(jobs) == [[0, 4], [2, 6], [1, 5], [3, 7]]
    assert [job.memory for job in jobs] == [2, 2, 2, 2]


def test_memory_is_shared_by_the_workers_that_run_at_a_time():
    cells = [cell(i) for i in range(8)]
    assert [len(job.cells) for job in jobs_of(cells, n_workers=2, memory=8)] == [4, 4]
    assert [len(job.cells) for job in jobs_of(cells, n_workers=2, memory=6)] == [2, 2, 2, 2]


def test_single_cell_that_does_not_fit_is_refused_with_what_it_needs_and_what_to_do():
    with pytest.raises(ConfigError) as caught:
        jobs_of([cell(i) for i in range(4)], n_workers=2, memory=2 * 2**20, estimate=lambda cells: 3 * 2**20)
    assert str(caught.value) == (
        "memory: expected room for at least 3 MiB per process, got 1; "
        "lower --workers, --n-steps, --n-envs or --batch-size"
    )


def estimate(n_cells=1, agent="ppo", config=PPO, **run):
    one = cell(0, agent, config, **run)
    env = make_env(one.run.env)
    return estimate_batch([one] * n_cells, observation_spec(env.observation_space), action_spec(env.action_space))


def test_estimate_grows_with_cells_widths_rollouts_and_minibatches():
    assert estimate(2) > estimate(1)
    assert estimate(3) - estimate(2) == pytest.approx(estimate(2) - estimate(1), rel=0.01)
    assert estimate(config=replace(PPO, net_arch=(256, 256))) > estimate()
    assert estimate(config=replace(PPO, n_steps=4096)) > estimate()
    assert estimate(config=replace(PPO, n_steps=4096, batch_size=8192)) > estimate(config=replace(PPO, n_steps=4096))
    assert estimate(n_envs=64) > estimate()


def test_machine_code_is_part_of_the_estimate_where_it_is_taken():
    for steps, kernel in ((1000, "autograd"), (10**6, "fused")):  # what auto is for so many
        assert estimate(total_timesteps=steps) == estimate(total_timesteps=steps, kernel=kernel)
        both = [estimate(total_timesteps=steps, kernel=name) for name in ("fused", "autograd")]
        assert both[0] - both[1] == 110 * 2**20
    for agent, more in (("sac", 110), ("discrete-sac", 0)):
        config = AGENT_CONFIGS[agent]()
        both = [estimate(1, agent, config, kernel=name) for name in ("fused", "autograd")]
        assert both[0] - both[1] == more * 2**20


def test_estimate_is_that_of_a_process_with_torch_for_the_smallest_cell():
    assert 150 * 2**20 < estimate() < 600 * 2**20
    assert estimate(kernel="autograd") < estimate(agent="sb3:PPO") < 800 * 2**20


def test_there_is_memory_and_a_core():
    assert available_memory() > 2**20
    assert n_cores() >= 1


def test_limit_of_the_container_counts(monkeypatch):
    monkeypatch.setattr("entropic_rl.compare.memory._cgroup", {"memory.max": 1000, "memory.current": 400}.get)
    assert available_memory() == 600
