"""Several processes that learn one run: threads stand for them, which speak through gloo as processes do."""

import shutil
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
import torch.distributed as dist
from gymnasium import spaces
from safetensors.torch import load_file

from entropic_rl.agents import agent_class
from entropic_rl.cell import Cell, settings_class
from entropic_rl.cli import main
from entropic_rl.config import RunConfig, build
from entropic_rl.data_parallel import follow, settle_for
from entropic_rl.errors import ConfigError, EnvError, NotResumableError, UserError
from entropic_rl.interruption import Stopped
from entropic_rl.ranks import ALONE, FollowerError, Ranks
from entropic_rl.recording import settle
from entropic_rl.runs import prepare, train_cells
from entropic_rl.streams import Stream
from entropic_rl.training import Training

ROOT = Path(__file__).parents[1]


def together(function, size=2):
    """What a function of :class:`Ranks` gives or raises in each of so many threads."""
    store, found = dist.HashStore(), [None] * size

    def run(number):
        group = dist.ProcessGroupGloo(store, number, size, timedelta(seconds=60))
        try:
            found[number] = function(Ranks(group, number, size))
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return found


# What processes ask of each other


def test_parts_are_all_of_it_and_differ_by_one_at_most():
    for n in range(20):
        for size in (1, 2, 3, 5):
            parts = [range(*Ranks(None, number, size).part(n)) for number in range(size)]
            assert [i for part in parts for i in part] == [*range(n)]
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tensors_of_any_type_are_gathered_in_the_order_of_the_processes():
    def gather(ranks):
        k = ranks.number
        return ranks.gather(
            [torch.tensor([k == 1]), torch.full((2, 1), k + 0.5, dtype=torch.float64), torch.tensor(k), torch.ones(3)]
        )

    first, second = together(gather)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert [(bool(a), b.flatten().tolist(), int(c)) for a, b, c, _ in first] == [
        (False, [0.5, 0.5], 0),
        (True, [1.5, 1.5], 1),
    ]


def test_texts_of_any_length_and_alphabet_are_exchanged():
    words = ["", "grüße, " * 50]
    assert together(lambda ranks: ranks.texts(words[ranks.number])) == [words, words]


def test_average_weighs_gradients_and_metrics_by_their_samples():
    def average(ranks):
        k = ranks.number
        grads = torch.full((1, 3), 4.0 * (k + 1))
        weight = torch.tensor([0.75 if k == 0 else 0.25])
        metrics = ranks.average_gradient(grads, weight, {"a": torch.tensor([8.0 * k])})
        return grads.tolist(), metrics["a"].tolist()

    assert together(average) == [([[5.0, 5.0, 5.0]], [2.0])] * 2  # 3/4 * 4 + 1/4 * 8, 1/4 * 8


def test_error_of_one_is_told_by_the_first_and_ends_the_others():
    def fail(ranks):
        def function():
            if ranks.number == 2:
                raise EnvError("it has no doors")

        return ranks.agree(function)

    first, *others = together(fail, 3)
    assert isinstance(first, UserError)
    assert str(first) == "process 2 of 3: it has no doors"
    assert [(type(other), other.code) for other in others] == [(FollowerError, 2)] * 2


def test_process_that_is_gone_ends_the_others_in_one_line():
    def leave(ranks):
        return None if ranks.number == 1 else ranks.gather([torch.zeros(1)])

    first, _ = together(leave)
    assert isinstance(first, UserError)
    assert str(first).startswith("another of the 2 processes of this training has ended or cannot be reached")


def test_alone_nothing_is_exchanged():
    tensor = torch.ones(2)
    assert ALONE.gather([tensor]) == [[tensor]]
    assert ALONE.agree(lambda: 3) == 3
    with pytest.raises(EnvError, match="no"):
        ALONE.agree(lambda: (_ for _ in ()).throw(EnvError("no")))


# Training

CASES = {
    "ppo": ("ppo", "CartPole-v1", {"n_steps": 32, "batch_size": 45, "n_epochs": 3}),
    "ppo, of all kinds": (
        "ppo",
        "Pendulum-v1",
        {"n_steps": 32, "batch_size": 50, "n_epochs": 2, "normalize_obs": True, "normalize_reward": True,
         "target_kl": 0.01, "ent_coef": "auto", "entropy_in": "reward", "clip_range_vf": 0.2},
    ),
    "ppo with memory": (
        "ppo", "CartPole-v1",
        {"n_steps": 16, "batch_size": 20, "n_epochs": 2, "recurrent": "gru", "sequence_length": 4},
    ),
    "a2c": ("a2c", "CartPole-v1", {"n_steps": 8, "normalize_advantage": True}),
    "a2c, step by step": ("a2c", "test/Lottery-v0", {"n_steps": 8}),
    "sac": (
        "sac", "Pendulum-v1",
        {"learning_starts": 32, "batch_size": 50, "gradient_steps": 4, "train_freq": 4, "buffer_size": 1000},
    ),
    "sac, n steps": (
        "sac", "Pendulum-v1",
        {"learning_starts": 32, "batch_size": 31, "train_freq": 2, "gradient_steps": 2, "n_steps": 3,
         "normalize_obs": True},
    ),
}  # fmt: skip
N_UPDATES = 4


def cell_of(case, tmp_path=Path("nowhere"), **run):
    agent, env, config = CASES[case]
    backend = "sync" if env.startswith("test/") else "auto"
    settings = {"env": env, "n_envs": 4, "seed": 3, "kernel": "autograd", "env_backend": backend, **run}
    return Cell(agent, build(RunConfig, settings), build(settings_class(agent), config), tmp_path)


def learned(case, ranks, **run):
    """Parameters after some updates, the last row of the record, and the statistics of episodes."""
    cell = settle(cell_of(case, **run))
    _, envs, meter, agent, *_ = prepare(agent_class(cell.agent), [cell], ranks)
    n = N_UPDATES * agent.steps_per_update * 4 + (40 if cell.agent == "sac" else 0)
    training = Training(agent, envs, total_timesteps=n, seeds=[3], meter=meter)
    rows = [record.rows[0] for record in training]
    envs.close()
    parameters = [agent.policy.params.values] + ([agent.critics.target.values] if cell.agent == "sac" else [])
    return torch.cat([x.flatten() for x in parameters]).clone(), rows


@pytest.mark.parametrize("case", CASES)
def test_processes_are_equal_and_learn_what_one_alone_learns(case):
    alone, rows = learned(case, ALONE)
    (first, first_rows), (second, second_rows) = together(lambda ranks: learned(case, ranks))
    assert torch.equal(first, second)
    assert (first - alone).abs().max() < 1e-6
    assert len(first_rows) == len(rows) == len(second_rows)
    for row, own in zip(rows, first_rows, strict=True):
        assert row.keys() == own.keys()
        named = {name: value for name, value in row.items() if not name.startswith("time/")}
        assert own == pytest.approx(
            named | {name: own[name] for name in own if name.startswith("time/")}, abs=1e-4, rel=1e-4
        )


# What cannot be divided, and what goes wrong


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        ({"n_envs": 5}, "--n-envs: expected a multiple of the 2 processes of torchrun, got 5"),
        ({"diagnose": True}, "--diagnose watches whole gradient steps"),
        ({"kernel": "fused"}, "--kernel fused takes whole steps"),
        ({"cuda_graphs": True}, "--cuda-graphs records whole steps"),
        ({"device": "cuda:0"}, "--device cuda:0: expected cuda, and a GPU for each"),
    ],
)
def test_what_cannot_be_divided_is_refused(run, complaint):
    with pytest.raises(ConfigError, match=complaint) as told:
        settle_for(cell_of("ppo", **run), Ranks(None, 0, 2))
    assert "\n" not in str(told.value)


def test_agent_that_cannot_share_is_refused_by_all():
    CASES["soft-q"] = ("soft-q", "CartPole-v1", {})
    try:
        first, second = together(lambda ranks: learned("soft-q", ranks))
    finally:
        del CASES["soft-q"]
    assert str(first) == "torchrun serves ppo, a2c and sac; train other agents in one process"
    assert isinstance(second, FollowerError)


class Failing(gym.Env):
    """In its third step it fails, or pays a number that is none, if its seed is one of the doomed."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,), np.float32), spaces.Discrete(2)
    doomed: ClassVar[dict[int, str]] = {}  # seed -> how

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.fate = 0, self.doomed.get(seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 3 and self.fate == "raises":
            raise RuntimeError("the door is stuck")
        reward = float("nan") if self.steps == 3 and self.fate == "not a number" else 1.0
        return np.zeros(1, np.float32), reward, False, False, {}


gym.register("test/Failing-v0", Failing)


@pytest.mark.parametrize("fate", ["raises", "not a number"])
def test_trouble_in_an_environment_of_another_process_is_told_once(monkeypatch, fate):
    [seeds] = Stream([3], "environment").seeds(4)
    monkeypatch.setattr(Failing, "doomed", {seeds[3]: fate})
    monkeypatch.setitem(CASES, "failing", ("ppo", "test/Failing-v0", {"n_steps": 8, "batch_size": 32}))
    first, second = together(lambda ranks: learned("failing", ranks))
    assert isinstance(first, UserError)
    assert str(first).startswith("process 1 of 2")
    assert {"raises": "the door is stuck", "not a number": "environment 1, step 3 after its reset"}[fate] in str(first)
    assert isinstance(second, UserError | FollowerError)


def test_processes_that_choose_other_actions_are_told():
    def differ(ranks):
        _, envs, *_ = prepare(agent_class("ppo"), [settle(cell_of("ppo"))], ranks)
        envs.reset([[0, 1, 2, 3]])
        envs.step(torch.tensor([[0, 1, 0, ranks.number]]))

    first, second = together(differ)
    assert "do not choose the same actions any more" in str(first)
    assert isinstance(second, FollowerError)


def test_all_stop_at_the_same_step_when_one_is_asked_to():
    def train(ranks):
        asked = iter(range(100))  # once when the environments begin, and once in every step
        _, envs, _, agent, *_ = prepare(agent_class("ppo"), [settle(cell_of("ppo"))], ranks)
        stop = ranks.stopping(lambda: ranks.number == 1 and next(asked) == 6)
        training = Training(agent, envs, total_timesteps=10_000, seeds=[3], should_stop=stop)
        with pytest.raises(Stopped):
            list(training)
        return training.n_steps

    assert together(train) == [24, 24]  # in the sixth step of four environments


def test_those_beside_the_first_leave_no_record_and_learn_to_the_end(tmp_path, no_figures):
    def train(ranks):
        cell = settle_for(cell_of("ppo", tmp_path / f"run_{ranks.number}", total_timesteps=256, eval_episodes=2), ranks)
        if ranks.is_first:
            return train_cells(agent_class("ppo"), [cell], ranks=ranks)[0]["global_step"]
        return follow(agent_class("ppo"), cell, ranks)

    assert together(train) == [256, None]
    assert [path.name for path in tmp_path.iterdir()] == ["run_0"]
    assert (tmp_path / "run_0" / "summary.json").exists()


# Stopping and going on


def both(tmp_path, case, *, steps=256, until=None, resume=False):
    """Training by two, the first with a record in ``tmp_path``; told to stop at the step of that number."""

    def train(ranks):
        asked = iter(range(100_000))
        stop = None if until is None else lambda: next(asked) == until
        cell = settle_for(cell_of(case, tmp_path, total_timesteps=steps, eval_episodes=2, checkpoint_every=1), ranks)
        cls = agent_class(cell.agent)
        if not ranks.is_first:
            return follow(cls, cell, ranks, resume=resume, should_stop=stop)
        checkpoints = tmp_path / "checkpoints"
        return train_cells(
            cls, [cell], ranks=ranks, checkpoints=checkpoints, resume=resume, extendable=True, should_stop=stop
        )

    return together(train)


def parameters(directory):
    return {name: tensor.tolist() for name, tensor in load_file(directory / "policy.safetensors").items()}


@pytest.mark.parametrize("case", ["ppo, of all kinds", pytest.param("sac", marks=pytest.mark.slow)])
def test_stopped_training_goes_on_with_the_same_bits(tmp_path, no_figures, case):
    both(tmp_path / "whole", case)
    stopped = both(tmp_path / "stopped", case, until=45)
    assert [type(end) for end in stopped] == [Stopped] * 2
    both(tmp_path / "stopped", case, resume=True)
    assert parameters(tmp_path / "stopped") == parameters(tmp_path / "whole")


def test_processes_go_on_from_the_newest_checkpoint_that_all_of_them_have(tmp_path, no_figures):
    both(tmp_path / "whole", "ppo", steps=512)
    both(tmp_path / "torn", "ppo", steps=512, until=100)
    first, second = (
        sorted(path for path in (tmp_path / "torn/checkpoints" / of).iterdir() if path.name.isdecimal())
        for of in ("", "process-1")
    )
    assert [path.name for path in first] == [path.name for path in second]
    shutil.rmtree(second[-1])
    [summary], _ = both(tmp_path / "torn", "ppo", steps=512, resume=True)
    assert summary["global_step"] == 512
    assert parameters(tmp_path / "torn") == parameters(tmp_path / "whole")


def test_processes_that_have_lost_a_folder_of_checkpoints_say_so_and_lose_no_more(tmp_path, no_figures):
    both(tmp_path, "ppo", steps=512, until=100)
    shutil.rmtree(tmp_path / "checkpoints/process-1")
    record = (tmp_path / "metrics.jsonl").read_bytes()
    first, _ = both(tmp_path, "ppo", steps=512, resume=True)
    assert isinstance(first, UserError)
    assert "have no checkpoint" in str(first)
    assert record
    assert (tmp_path / "metrics.jsonl").read_bytes() == record


def test_training_of_two_is_none_of_one(tmp_path, no_figures):
    both(tmp_path, "ppo", until=45)
    cell = cell_of("ppo", tmp_path, total_timesteps=256, eval_episodes=2, checkpoint_every=1)
    with pytest.raises(NotResumableError, match="processes"):
        train_cells(agent_class("ppo"), [cell], checkpoints=tmp_path / "checkpoints", resume=True)


# As users start it

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = [*TORCHRUN, str(ROOT / "scripts" / "train.py")]
SMALL = ["--preset", "none", "--n-envs", "4", "--total-timesteps", "1024", "--no-progress", "--eval-episodes", "2"]


def started(*arguments):
    return subprocess.run([*TRAIN, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.slow
def test_torchrun_leaves_the_record_of_a_single_process(tmp_path):
    ppo = ["ppo", "--env", "CartPole-v1", *SMALL, "--n-steps", "64", "--batch-size", "64"]
    ended = started(*ppo, "--run-dir", tmp_path / "both")
    assert ended.returncode == 0, ended.stderr
    assert main([*ppo, "--run-dir", str(tmp_path / "alone")], verb="train") == 0
    both, alone = (load_file(tmp_path / name / "policy.safetensors") for name in ("both", "alone"))
    assert max(float((both[name] - alone[name]).abs().max()) for name in alone) < 1e-6
    assert ended.stdout.count("environment steps") == 1
    assert len((tmp_path / "both/metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_torchrun_tells_a_mistake_in_one_line(tmp_path):
    ended = started("ppo", "--env", "CartPole-v1", *SMALL, "--n-envs", 5, "--run-dir", tmp_path / "run")
    ours = [line for line in ended.stderr.splitlines() if line.startswith("train.py: ")]
    assert len(ours) == 1
    assert "expected a multiple of the 2 processes" in ours[0]
    assert ended.returncode != 0
    assert not (tmp_path / "run").exists()
