"""The state of anything: taken, put back, gone on with bit for bit; what cannot be kept is named."""

import enum
import functools
import json

import numpy as np
import pytest
import torch

from entropic_rl import agents
from entropic_rl.agents.config import action_head
from entropic_rl.environments import make_vector_env
from entropic_rl.episode_tape import EpisodeTape
from entropic_rl.exploration import ExplorationMeter, cells_of
from entropic_rl.snapshots import Snapshot, difference, look, put_back, rebind, take, unlike
from entropic_rl.spaces import observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch

ON = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "net_arch": (8,)}
OFF = {"batch_size": 16, "learning_starts": 20, "buffer_size": 100, "net_arch": (8,), "train_freq": 4}
NORMALIZED = {"normalize_obs": True, "normalize_reward": True}
KINDS = {
    "ppo, normalisation": (agents.PPO, "CartPole-v1", ON | NORMALIZED),
    "ppo, schedules, target_kl": (
        agents.PPO, "entropic_rl/FourRooms-v0", ON | {"target_kl": 0.001, "ent_coef": "linear:0.1:0"},
    ),
    "ppo, target": (agents.PPO, "CartPole-v1", ON | {"ent_coef": "target:0.5", "learning_rate": "linear:0.01:0"}),
    "ppo, gru": (agents.PPO, "CartPole-v1", ON | NORMALIZED | {"recurrent": "gru"}),
    "ppo, cnn": (agents.PPO, "entropic_rl/Catch-v0", ON | {"features": "cnn", "features_dim": 8}),
    "ppo, transformer": (agents.PPO, "CartPole-v1", ON | {"features": "attention"}),
    "ppo, continuous": (agents.PPO, "Pendulum-v1", ON | {"squash_output": True}),
    "a2c": (agents.A2C, "entropic_rl/DeepSea-v0", {"net_arch": (8,)} | NORMALIZED),
    "a2c, lstm": (agents.A2C, "CartPole-v1", {"net_arch": (8,), "recurrent": "lstm"}),
    "sac, auto": (agents.SAC, "Pendulum-v1", OFF | {"normalize_obs": True}),
    "sac, n-step": (agents.SAC, "Pendulum-v1", OFF | {"n_steps": 3, "warmup_hold": 3, "ent_coef": 0.1}),
    "discrete sac, target": (agents.DiscreteSAC, "CartPole-v1", OFF | {"ent_coef": "target:0.3"}),
    "soft q": (agents.SoftQ, "CartPole-v1", OFF | {"munchausen": 0.9}),
}  # fmt: skip


def training_of(kind, *, backend="batched", total=10_000):
    """Two runs of two environments, always built in the same way."""
    cls, env_id, settings = KINDS[kind]
    config = cls.Config(**settings)
    env = make_vector_env(env_id, 4, backend=backend, wrap=None if backend == "batched" else EpisodeTape)
    frames = 3 if settings.get("features") == "attention" else 1
    observation = observation_spec(env.single_observation_space).stacked(frames)
    action = action_head(config, env.single_action_space)
    envs = EnvBatch(env, 2, observation=observation, action=action)
    cells = cells_of(env.single_observation_space, env.metadata.get("n_states"), env.metadata.get("layout"))
    meter = ExplorationMeter(cells, 2, 2, action=action, frames=frames)
    agent = cls([config] * 2, [3, 4], observation=observation, action=action, n_envs=2)
    return Training(agent, envs, total_timesteps=total, seeds=[3, 4], meter=meter)


def go_on(training, n_steps):
    """So many env steps, with updates where they are due; the metrics of the last update."""
    metrics = {}
    for _ in range(n_steps):
        training._step()
        if training._n_collected == training.agent.steps_per_update:
            metrics = training._update()
    return metrics


def roots(training):
    return {"agent": training.agent, "training": training}


@pytest.mark.parametrize("kind", KINDS)
def test_training_put_into_a_fresh_build_goes_on_with_the_same_bits(kind):
    one = training_of(kind)
    go_on(one, 43)  # within a rollout and within an episode
    snapshot = take(roots(one))
    metrics = go_on(one, 37)
    other = training_of(kind)
    go_on(other, 5)  # nothing of what it was may be left
    put_back(snapshot, roots(other))
    assert difference(snapshot, take(roots(other))) is None
    again = go_on(other, 37)
    assert difference(take(roots(one)), take(roots(other))) is None
    assert metrics
    assert {name: value.tolist() for name, value in metrics.items() if not value.isnan().any()} == {
        name: value.tolist() for name, value in again.items() if not value.isnan().any()
    }


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_stock_vector_environments_go_on_with_the_same_bits(backend):
    one, other = (training_of("ppo, target", backend=backend) for _ in range(2))
    try:
        go_on(one, 43)
        snapshot = take(roots(one))
        go_on(one, 37)
        put_back(snapshot, roots(other))
        go_on(other, 37)
        assert difference(take(roots(one)), take(roots(other))) is None
    finally:
        one._envs.close()
        other._envs.close()


class Holder:
    """Whatever attributes a test needs."""

    def __init__(self, **parts):
        vars(self).update(parts)


def back(parts, fresh):
    """``fresh`` after a snapshot of ``parts`` was put into it."""
    put_back(take({"it": parts}), {"it": fresh})
    return fresh


def test_tensors_that_are_not_there_yet_come_back_where_they_were():
    then = take({"it": Holder(x=torch.ones(2))})
    then.tree["it"]["object"]["x"]["device"] = "meta"
    now = Holder(x=None)
    put_back(then, {"it": now})
    assert now.x.device.type == "meta"
    assert "device" not in json.dumps(take({"it": Holder(x=torch.ones(2))}).tree)


def test_views_stay_views_of_what_they_were():
    def build(value):
        whole = torch.full((4,), value)
        return Holder(whole=whole, part=whole[1:3])

    put = back(build(7.0), build(0.0))
    put.whole += 1.0
    assert put.part.tolist() == [8.0, 8.0]


def test_a_look_finds_the_very_tensors_and_objects_hold_them_again():
    shared = torch.zeros(2)
    holder = Holder(one=shared, other=Holder(it=shared), parts=[torch.ones(1)], n=1)
    seen = look({"it": holder})
    assert {id(x) for x in seen.tensors.values()} == {id(shared), id(holder.parts[0])}
    shared += 5.0
    first, holder.one, holder.other.it, holder.n = holder.parts[0], torch.ones(2), torch.ones(2), 2
    holder.parts[0] = torch.zeros(1)
    rebind(seen, {"it": holder})
    assert holder.one is shared
    assert holder.other.it is shared
    assert holder.parts[0] is first
    assert (shared.tolist(), holder.n) == ([5.0, 5.0], 1)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"x": torch.zeros(2)}, None),
        ({"x": torch.zeros(3)}, "it.x"),
        ({"x": torch.ones(2, dtype=torch.float64)}, "it.x"),
        ({"n": 2}, "it.object.n.value"),
        ({"n": True}, "it.object.n.value"),
    ],
)
def test_snapshots_are_alike_if_numbers_of_tensors_alone_differ(change, path):
    parts = {"x": torch.ones(2), "n": 1}
    one, other = look({"it": Holder(**parts)}), look({"it": Holder(**{**parts, **change})})
    assert unlike(one, other) == path


def test_object_held_twice_is_one_object_afterwards():
    def build(value):
        shared = [value]
        return Holder(one=shared, other=Holder(it=shared))

    put = back(build(7), build(0))
    assert put.one is put.other.it
    assert put.one == [7]


def test_attribute_that_begins_to_share_shares_afterwards():
    numbers = torch.ones(2)
    put = back(Holder(a=numbers, b=numbers), Holder(a=torch.zeros(2), b=torch.zeros(2)))
    assert put.a is put.b
    assert put.a.tolist() == [1.0, 1.0]


def test_tensors_that_are_one_in_the_other_build_are_two_afterwards():
    shared = torch.zeros(2)
    put = back(Holder(a=torch.ones(2), b=torch.full((2,), 2.0)), Holder(a=shared, b=shared))
    assert put.a.tolist() == [1.0, 1.0]
    assert put.b.tolist() == [2.0, 2.0]


def test_object_that_holds_itself_is_put_back():
    def build(value):
        it = Holder(value=value)
        it.me = it
        return it

    put = back(build(7), build(0))
    assert put.me is put
    assert put.value == 7


def test_values_lists_dicts_arrays_and_generators_are_put_back():
    def build(seed):
        return Holder(
            value=seed / 3, text=str(seed), none=None if seed else 0, pair=(seed, [seed]), by={"a": seed, 2: seed},
            array=np.arange(3) + seed, random=np.random.default_rng(seed), empty=torch.empty(0, 2), flag=seed > 0,
        )  # fmt: skip

    one, put = build(7), back(build(7), build(0))
    assert (put.value, put.text, put.none, put.pair, put.by) == (one.value, one.text, one.none, one.pair, one.by)
    assert put.array.tolist() == [7, 8, 9]
    assert put.random.random() == one.random.random()
    assert put.flag is True


def test_tensor_that_grew_is_put_back():
    put = back(Holder(x=torch.arange(5.0)), Holder(x=torch.arange(2.0)))
    assert put.x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_snapshot_does_not_change_with_its_objects():
    it = Holder(x=torch.zeros(2), array=np.zeros(2))
    snapshot = take({"it": it})
    it.x += 1.0
    it.array += 1.0
    assert snapshot.tensors["it.x"].tolist() == [0.0, 0.0]
    assert snapshot.tensors["it.array"].tolist() == [0.0, 0.0]


def test_class_names_what_is_no_state():
    class Forgetful(Holder):
        NO_STATE = ("file",)

    assert take({"it": Forgetful(file=object(), x=1)}).tree["it"]["object"] == {"x": {"value": 1}}


class Colour(enum.IntEnum):
    RED = 1


def test_settings_and_constants_are_left_as_they_were_built():
    fixed = {"colour": Colour.RED, "config": agents.PPOConfig(), "cls": dict, "dtype": torch.float32, "fn": len}
    put = back(Holder(**fixed), Holder(**fixed))
    assert vars(put) == fixed


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (object(), "it.part"),
        ([1, {"a": object()}], "it.part.1.a"),
        ({1, 2}, "it.part"),
        ((i for i in ()), "it.part"),
        (np.array([object()], dtype=object), "it.part"),
        ({(1, 2): 3}, "it.part"),
        (b"bytes", "it.part"),
        (1j, "it.part"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unknown_kinds_are_errors_that_name_their_place(part, path):
    with pytest.raises(TypeError, match=rf"^{path}: a snapshot cannot keep"):
        take({"it": Holder(part=part)})


def test_state_hidden_in_a_closure_is_an_error():
    numbers = [1]
    with pytest.raises(TypeError, match=r"^it\.ask: a snapshot cannot keep the list inside a function"):
        take({"it": Holder(ask=lambda: numbers[0])})


def test_state_hidden_in_a_partial_is_an_error():
    with pytest.raises(TypeError, match=r"^it\.ask: a snapshot cannot keep the Tensor inside a function"):
        take({"it": Holder(ask=functools.partial(torch.add, torch.ones(1)))})


def test_state_hidden_in_a_bound_method_is_an_error():
    class Counter(Holder):
        def ask(self):
            return self.n

    with pytest.raises(TypeError, match=r"^it\.ask: a snapshot cannot keep the .*Counter inside a function"):
        take({"it": Holder(ask=Counter(n=1).ask)})


def test_function_that_holds_what_is_kept_anyway_is_fine():
    numbers = torch.ones(1)
    it = Holder(numbers=numbers, ask=lambda: numbers + 1)
    assert take({"it": it}).tree["it"]["object"]["ask"] == {"fixed": True}


def test_other_class_is_an_error():
    class Other(Holder):
        pass

    with pytest.raises(ValueError, match=r"it\.x is a Holder in one and a .*Other in the other"):
        put_back(take({"it": Holder(x=Holder())}), {"it": Holder(x=Other())})


def test_missing_root_is_an_error():
    with pytest.raises(ValueError, match="other is missing"):
        put_back(take({"it": Holder()}), {"other": Holder()})


def test_environment_without_tape_is_an_error_that_says_so():
    env = make_vector_env("test/Clock-v0", 1, backend="sync")
    with pytest.raises(TypeError, match=r"^it\.env: .*EpisodeTape around each"):
        take({"it": Holder(env=env)})


@pytest.mark.parametrize("bit", range(8))
def test_difference_finds_every_bit(bit):
    one = take({"it": Holder(x=torch.zeros(3), y=torch.zeros(0))})
    other = Snapshot(one.tree, {name: tensor.clone() for name, tensor in one.tensors.items()})
    assert difference(one, other) is None
    other.tensors["it.x"].view(torch.uint8)[7] ^= 1 << bit  # negative zero counts, too
    assert difference(one, other) == "it.x"


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ({"n": 1}, {"n": 2}, "it.object.n.value"),
        ({"n": 1}, {"n": True}, "it.object.n.value"),
        ({"n": 0.0}, {"n": -0.0}, "it.object.n.value"),
        ({"n": [1]}, {"n": [1, 2]}, "it.object.n.list"),
        ({"n": 1}, {"n": 1, "m": 1}, "it.object.m"),
        ({"n": torch.ones(1)}, {"n": torch.ones(1, dtype=torch.float64)}, "it.n"),
    ],
)
def test_difference_names_the_first_place(one, other, path):
    assert difference(take({"it": Holder(**one)}), take({"it": Holder(**other)})) == path


def test_not_a_number_is_itself():
    one, other = (take({"it": Holder(n=float("nan"), x=torch.tensor([float("nan")]))}) for _ in range(2))
    assert difference(one, other) is None


def test_arrays_without_numbers_are_compared():
    one, other = (
        take({"it": Holder(x=torch.from_numpy(np.arange(8)[:0].copy()), y=np.zeros((1, 0)))}) for _ in range(2)
    )
    assert difference(one, other) is None
    stretched = Snapshot(one.tree, one.tensors | {"it.x": torch.empty(0, dtype=torch.int64).as_strided((0,), (0,))})
    assert difference(stretched, other) is None
