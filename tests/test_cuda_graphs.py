"""Iterations that are recorded and repeated are the iterations that are computed one by one, bit for bit.

Without a GPU the recording is a tape of operations on the CPU, which is told to be a device that one would wait for.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from entropic_rl import devices
from entropic_rl.agents import agent_class
from entropic_rl.agents.config import action_head
from entropic_rl.cli import main
from entropic_rl.config import RunConfig
from entropic_rl.cuda_graphs import CudaGraph, Graphed, Iterations, check_capturable
from entropic_rl.envs import draws
from entropic_rl.envs.cartpole import CartPoleVectorEnv
from entropic_rl.envs.catch import CatchVectorEnv
from entropic_rl.envs.deep_sea import DeepSeaVectorEnv
from entropic_rl.envs.pendulum import PendulumVectorEnv
from entropic_rl.errors import ConfigError
from entropic_rl.exploration import ExplorationMeter, cells_of
from entropic_rl.interruption import Stopped
from entropic_rl.run_directory import read_metrics
from entropic_rl.snapshots import difference, put_back, take
from entropic_rl.spaces import observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch
from tests.device_manners import good_manners
from tests.tape import Tape

SHORT = {"n_steps": 6, "learning_rate": 0.01}
PPO = {**SHORT, "batch_size": 8, "n_epochs": 2}
CASES = {
    "ppo": ("ppo", partial(CartPoleVectorEnv, max_episode_steps=9), PPO),
    "short episodes": ("ppo", partial(PendulumVectorEnv, max_episode_steps=1), PPO),
    "step draws": ("ppo", CatchVectorEnv, PPO),
    "normalised": ("ppo", PendulumVectorEnv, {**PPO, "normalize_obs": True, "normalize_reward": True}),
    "squashed": ("ppo", PendulumVectorEnv, {**PPO, "squash_output": True}),
    "steered": ("ppo", DeepSeaVectorEnv, {**PPO, "ent_coef": "target:0.5"}),
    "scheduled": ("ppo", CartPoleVectorEnv, {**PPO, "learning_rate": "linear:0.01:0", "clip_range": "linear:0.3:0.1"}),
    "memory": ("ppo", CartPoleVectorEnv, {**PPO, "recurrent": "gru", "sequence_length": 4}),
    "a2c": ("a2c", CartPoleVectorEnv, SHORT),
    "one step at a time": ("a2c", DeepSeaVectorEnv, {**SHORT, "n_steps": 1, "entropy_in": "reward"}),
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def waited_for(monkeypatch):
    """The CPU counts as a device that one would wait for; fewer numbers are drawn ahead than an iteration needs."""
    monkeypatch.setattr(devices, "_IMMEDIATE", ())
    monkeypatch.setattr(draws, "_EPISODES_AHEAD", 4)
    monkeypatch.setattr(draws, "_STEPS_AHEAD", 4)


def training(case, recording=None, *, device="cpu", frames=1, updates=10):
    """Of two runs of two environments each."""
    name, make_env, settings = CASES[case]
    device, cls = torch.device(device), agent_class(name)
    config = cls.Config(**settings)
    vector_env = make_env(num_envs=4, device=device)
    observation = observation_spec(vector_env.single_observation_space).stacked(frames)
    action = action_head(config, vector_env.single_action_space)
    given = {"observation": observation, "action": action, "device": device}
    envs = EnvBatch(vector_env, 2, success_return=3.0, **given)
    agent = cls([config] * 2, [0, 1], n_envs=2, **given)
    cells = cells_of(vector_env.single_observation_space)
    meter = ExplorationMeter(cells, 2, 2, action=action, frames=frames, device=device)
    total = updates * config.n_steps * 2
    made = Training(agent, envs, total_timesteps=total, seeds=[0, 1], meter=meter, log_interval=2)
    if recording is not None:
        made.iterations = Iterations(agent, envs, recording)
    return made


def told(training):
    """All rows of a training but for its clock."""
    rows = [row for record in training for row in record.rows]
    return [{name: repr(x) for name, x in row.items() if not name.startswith("time/")} for row in rows]


def difference_of(one, other):
    """Where two trainings stand elsewhere; how many numbers are drawn ahead does not count."""
    parts = [
        {"agent": x.agent, "episodes": x._envs.episodes, "state": x._envs.env.state, "obs": x._obs, "meter": x._meter}
        for x in (one, other)
    ]
    return difference(*map(take, parts))


class Numbers:
    """Tensors that move from attribute to attribute, as an iteration's do."""

    def __init__(self):
        self.a, self.b, self.kept = torch.zeros(3), torch.ones(3), torch.zeros(3)
        self.c, self.d = torch.zeros(1), torch.ones(1)
        self.list, self.n = [torch.zeros(1)], 0

    def step(self):
        self.a, self.b = self.b, self.a + self.b  # numbers of Fibonacci
        self.c, self.d = self.d, self.c
        self.kept += self.a
        self.list = [self.list[0] + 1.0]
        return self.a * 2.0


def test_tensors_that_swap_places_are_what_they_are_without_a_recording():
    plain, recorded = Numbers(), Numbers()
    graphed = Graphed(recorded.step, {"numbers": recorded}, Tape())
    for _ in range(10):
        assert torch.equal(plain.step(), graphed())
    assert difference(take({"": plain}), take({"": recorded})) is None


def test_a_recording_computes_nothing_and_what_it_returns_is_nonsense_until_it_is_replayed():
    numbers, tape = Numbers(), Tape()
    result = tape.record(lambda: numbers.kept.add_(1.0) * 2.0)
    assert numbers.kept.tolist() == [0.0] * 3
    assert result.isnan().all()
    for n in (1.0, 2.0):
        tape.replay()
        assert (numbers.kept.tolist(), result.tolist()) == ([n] * 3, [2.0 * n] * 3)


def test_a_plain_value_that_changes_is_an_error_that_names_it():
    numbers = Numbers()

    def step():
        numbers.n += 1

    graphed = Graphed(step, {"numbers": numbers}, Tape())
    graphed()
    graphed()
    with pytest.raises(ConfigError, match=r"cuda_graphs: numbers\.object\.n\.value changes with every iteration"):
        graphed()


def test_a_plain_value_that_changes_when_it_is_recorded_is_an_error_too():
    numbers = Numbers()
    calls = []

    def step():
        calls.append(None)
        numbers.n = len(calls) // 4

    graphed = Graphed(step, {"numbers": numbers}, Tape())
    for _ in range(3):
        graphed()
    with pytest.raises(ConfigError, match=r"numbers\.object\.n\.value changes"):
        graphed()


def test_a_tensor_that_is_replaced_now_and_then_is_an_error():
    numbers = Numbers()
    calls = []

    def step():
        calls.append(None)
        numbers.a = numbers.a + 1.0 if len(calls) % 2 else numbers.a

    graphed = Graphed(step, {"numbers": numbers}, Tape())
    with pytest.raises(ConfigError, match=r"numbers\.a is not replaced in every iteration"):
        [graphed() for _ in range(4)]


def test_a_tensor_that_grows_is_an_error():
    numbers = Numbers()

    def step():
        numbers.a = torch.cat([numbers.a, numbers.a])

    graphed = Graphed(step, {"numbers": numbers}, Tape())
    with pytest.raises(ConfigError, match=r"numbers\.a changes"):
        [graphed() for _ in range(3)]


def test_state_that_is_hidden_in_a_function_is_an_error():
    numbers, hidden = Numbers(), torch.zeros(1)
    numbers.function = lambda: hidden
    graphed = Graphed(numbers.step, {"numbers": numbers}, Tape())
    with pytest.raises(ConfigError, match=r"cuda_graphs: .*inside a function"):
        [graphed() for _ in range(3)]


@pytest.mark.usefixtures("waited_for")
@every_case
def test_recorded_iterations_are_plain_ones_bit_by_bit(case):
    plain, recorded = training(case), training(case, Tape())
    assert told(recorded) == told(plain)
    assert recorded.iterations._graphed._n_calls == 10
    assert difference_of(plain, recorded) is None


@pytest.mark.usefixtures("waited_for")
@pytest.mark.parametrize("inner_dtype", [None, torch.bfloat16])
def test_stacked_observations_and_rounded_layers_are_recorded_too(inner_dtype):
    plain, recorded = training("ppo", frames=3), training("ppo", Tape(), frames=3)
    for made in (plain, recorded):
        made.agent.policy.params.inner_dtype = inner_dtype
    assert told(recorded) == told(plain)
    assert difference_of(plain, recorded) is None


@pytest.mark.usefixtures("waited_for")
@pytest.mark.parametrize("n_before", [2, 5])
@pytest.mark.parametrize("n_steps", [0, 3])
def test_a_recorded_training_that_is_stopped_goes_on_as_a_plain_one_would(n_before, n_steps):
    whole, first, second = training("steered", Tape()), training("steered", Tape()), training("steered", Tape())
    for _ in range(n_before):
        first._update()
    for _ in range(n_steps):  # of a rollout that is not full
        first._step()
    put_back(take({"agent": first.agent, "training": first}), {"agent": second.agent, "training": second})
    told(whole), told(second)
    assert difference_of(whole, second) is None


def test_a_training_that_is_to_stop_does_so_between_iterations():
    made = training("a2c", Tape())
    made._update()
    made._should_stop = lambda: True
    with pytest.raises(Stopped):
        made._update()
    assert (made.n_updates, made.n_steps) == (1, 12)


@pytest.mark.usefixtures("waited_for")
def test_a_run_that_broke_stays_as_it_is():
    recorded = training("ppo", Tape())
    for _ in range(5):
        recorded._update()
    recorded.agent.health.stop(1)
    before = recorded.agent.policy.params.values.clone()
    recorded._update()
    moved = (recorded.agent.policy.params.values != before).any(1)
    assert moved.tolist() == [True, False]


@every_case
def test_an_iteration_leaves_the_host_alone(case):
    made = training(case, device="meta")
    iterations = Iterations(made.agent, made._envs, Tape())
    iterations._obs = made._obs
    iterations._iterate()  # tables of constants are brought once
    with good_manners(alone=True):
        iterations._iterate()


SMALL = "--env CartPole-v1 --total-timesteps 64 --n-envs 2 --n-steps 8 --device cpu --cuda-graphs"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"device": "cpu"}, "expected a CUDA device, got cpu"),
        ({"name": "sac", "make_env": PendulumVectorEnv}, "only ppo and a2c have iterations that are always the same"),
        ({"env": object()}, "expected an environment that is stepped by one program of tensors (batched), got 'X-v0'"),
        ({"target_kl": 0.1}, "target_kl asks the device after every epoch"),
        ({"diagnose": True}, "diagnose looks into gradient steps"),
    ],
)
def test_what_cannot_be_recorded_is_refused(given, complaint):
    given = {"device": "cuda", "name": "ppo", "make_env": CartPoleVectorEnv, "diagnose": False, **given}
    env = given.get("env") or given["make_env"](num_envs=2)
    config = agent_class(given["name"]).Config(**{k: v for k, v in given.items() if k == "target_kl"})
    agent = SimpleNamespace(config=config, **({"learn": None} if given["name"] == "ppo" else {}))
    run = RunConfig(env="X-v0", diagnose=given["diagnose"])
    with pytest.raises(ConfigError) as refused:
        check_capturable(agent, SimpleNamespace(env=env), run, torch.device(given["device"]))
    assert str(refused.value) == f"cuda_graphs: {complaint}; leave --cuda-graphs out"


def test_train_refuses_them_in_one_line_and_leaves_nothing(tmp_path, capsys):
    assert main(["ppo", *SMALL.split(), "--batch-size", "16", "--run-dir", str(tmp_path / "run")], verb="train") == 2
    line = "train.py: error: cuda_graphs: expected a CUDA device, got cpu; leave --cuda-graphs out"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("waited_for")
def test_evaluations_and_checkpoints_between_recorded_iterations_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.runs.check_capturable", lambda *given: None)
    monkeypatch.setattr("entropic_rl.runs.CudaGraph", lambda device: Tape())
    words = (
        "ppo --device cpu --env CartPole-v1 --total-timesteps 160 --n-envs 2 --n-steps 8 --batch-size 8 --n-epochs 1"
    )
    words += " --normalize-obs --eval-episodes 2 --eval-freq 48 --checkpoint-every 3 --log-interval 1 --no-progress"
    for name, flags in (("plain", []), ("recorded", ["--cuda-graphs"])):
        assert main([*words.split(), *flags, "--run-dir", str(tmp_path / name)], verb="train") == 0
    plain, recorded = (
        [{k: x for k, x in row.items() if not k.startswith("time/")} for row in read_metrics(tmp_path / name)]
        for name in ("plain", "recorded")
    )
    assert len(plain) == 10
    assert sum("eval/mean_reward" in row for row in plain) == 4
    assert plain == recorded


# On a GPU


@pytest.mark.gpu
@every_case
def test_a_gpu_learns_by_recordings_what_it_learns_without(case):
    plain = training(case, device="cuda", updates=6)
    recorded = training(case, CudaGraph(torch.device("cuda")), device="cuda", updates=6)
    for _ in range(6):
        expected, found = plain._update(), recorded._update()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4, equal_nan=True)
    values = [x.agent.policy.params.values for x in (plain, recorded)]
    torch.testing.assert_close(values[1], values[0], rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@every_case
def test_a_gpu_learns_what_the_cpu_learns(case):
    here, there = training(case, updates=2), training(case, device="cuda", updates=2)
    for _ in range(2):
        here._update(), there._update()
    values = [x.agent.policy.params.values.cpu() for x in (here, there)]
    torch.testing.assert_close(values[1], values[0], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@every_case
@pytest.mark.parametrize("is_recorded", [False, True])
def test_nobody_waits_for_a_gpu_between_records(case, is_recorded):
    made = training(case, CudaGraph(torch.device("cuda")) if is_recorded else None, device="cuda", updates=12)
    made._interval = 100
    for _ in range(5):
        made._update()
    made._meter.read()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            made._update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.n_updates == 9


@pytest.mark.gpu
def test_a_gpu_trains_2048_runs_of_which_each_is_what_it_is_alone():
    config, device = agent_class("ppo").Config(n_steps=16, batch_size=32), torch.device("cuda")
    values = []
    for n_runs in (1, 2048):
        env = CartPoleVectorEnv(num_envs=4 * n_runs, device=device)
        specs = {"observation": observation_spec(env.single_observation_space), "device": device}
        specs["action"] = action_head(config, env.single_action_space)
        envs, seeds = EnvBatch(env, n_runs, **specs), list(range(n_runs))
        agent = agent_class("ppo")([config] * n_runs, seeds, n_envs=4, **specs)
        made = Training(agent, envs, total_timesteps=10**6, seeds=seeds, log_interval=10**6)
        made.iterations = Iterations(agent, envs, CudaGraph(device))
        for _ in range(6):
            made._update()
        values.append(agent.policy.params.values[0])
    assert agent.policy.params.values.isfinite().all()
    torch.testing.assert_close(values[1], values[0], rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_a_gpu_rounds_hidden_layers_to_bfloat16_as_the_cpu_does():
    here, there = (training("ppo", device=device).agent.policy for device in ("cpu", "cuda"))
    obs = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    exact = here.value(obs).detach()
    here.params.inner_dtype = there.params.inner_dtype = torch.bfloat16
    expected, found = here.value(obs).detach(), there.value(obs.cuda()).detach().cpu()
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.02)
    assert float((found - exact).abs().max()) > 0.0
