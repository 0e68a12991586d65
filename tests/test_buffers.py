"""Memory of transitions: what is stored, what is drawn, and how far ahead it looks."""

import math

import pytest
import torch
from gymnasium import spaces

from entropic_rl.buffers import Replay
from entropic_rl.spaces import ObservationSpec, action_spec
from entropic_rl.streams import Stream
from entropic_rl.vector import Transition

R, E = 2, 2
CHOICE = action_spec(spaces.Discrete(3))
BOX = action_spec(spaces.Box(-1.0, 1.0, (2,)))


def value(step, run, env):
    """A number that tells where it comes from."""
    return 100.0 * step + 10.0 * run + env


def of_step(step, offset=0.0):
    """``[R, E]``."""
    return torch.tensor([[value(step, r, e) + offset for e in range(E)] for r in range(R)])


def flags(*where):
    """``[R, E]``, True in ``where``."""
    found = torch.zeros(R, E, dtype=torch.bool)
    for run, env in where:
        found[run, env] = True
    return found


def add(replay, step, *, terminated=(), truncated=(), valid=None, mask=None, next_mask=None, final_mask=None):
    """Step t pays value(t), is seen as value(t), leads to value(t) + 0.5, or to value(t) + 0.25 if it ends there."""
    terminated, truncated = flags(*terminated), flags(*truncated)
    replay.add(
        of_step(step).unsqueeze(-1),
        torch.full((R, E), step % 3),
        mask,
        Transition(
            next_obs=of_step(step, 0.5).unsqueeze(-1),
            reward=of_step(step),
            terminated=terminated,
            truncated=truncated,
            final_obs=of_step(step, 0.25).unsqueeze(-1) if (terminated | truncated).any() else None,
            valid=valid,
            next_mask=next_mask,
            final_mask=final_mask,
        ),
    )


def replay_of(n, capacity=100, **ends):
    """A memory with n steps; ``ends`` maps step -> keyword arguments of that step as ``at_3={...}``."""
    replay = Replay(capacity, R, E, ObservationSpec.vector(1), CHOICE)
    for step in range(n):
        add(replay, step, **ends.get(f"at_{step}", {}))
    return replay


def every(replay, *, n_steps=1, gamma=(0.5, 0.9)):
    """Every transition that is there, once, in the order of (step, env)."""
    n = len(replay)
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5).expand(R, n) / n
    return replay.sample(uniform, n_steps=n_steps, gamma=torch.tensor(gamma))


def test_what_was_stored_is_what_is_drawn():
    batch = every(replay_of(4))
    for run in range(R):
        where = [(step, run, env) for step in range(4) for env in range(E)]
        assert batch.obs[run, :, 0].tolist() == batch.reward[run].tolist() == [value(*w) for w in where]
        assert batch.next_obs[run, :, 0].tolist() == [value(*w) + 0.5 for w in where]
        assert batch.action[run].tolist() == [step % 3 for step, _, _ in where]
        assert batch.discount[run].tolist() == pytest.approx([(0.5, 0.9)[run]] * 8)
    assert not batch.terminated.any()
    assert batch.valid is batch.mask is batch.next_mask is None


def test_only_what_is_there_is_drawn():
    replay = replay_of(3, capacity=1000)
    replay.obs[:, 3:] = math.nan
    replay.reward[:, 3:] = math.nan
    batch = replay.sample(Stream([0, 1], "test").uniform(500), n_steps=5, gamma=torch.ones(R))
    assert batch.obs.isfinite().all()
    assert batch.reward.isfinite().all()
    assert [sorted(set(run.flatten().tolist())) for run in batch.obs] == [
        [value(step, run, env) for step in range(3) for env in range(E)] for run in range(R)
    ]


@pytest.mark.parametrize("capacity", [6, 7], ids=["even", "rounded-down"])
def test_memory_that_is_full_forgets_the_oldest(capacity):
    replay = replay_of(8, capacity=capacity)
    assert len(replay) == 6
    assert replay.n_added == 8
    assert every(replay).obs[1, :, 0].tolist() == [value(step, 1, env) for step in (5, 6, 7) for env in range(E)]


def test_length_counts_transitions_of_one_run():
    assert [len(replay_of(n, capacity=6)) for n in (0, 1, 3, 5)] == [0, 2, 6, 6]


def test_memory_smaller_than_one_step_holds_one_step():
    assert len(replay_of(3, capacity=1)) == E


def test_extreme_draws_stay_inside():
    replay = replay_of(8, capacity=6)
    edges = torch.tensor([[0.5 * 2.0**-32, 1.0 - 0.5 * 2.0**-32]] * R, dtype=torch.float64)
    assert replay.sample(edges, n_steps=1, gamma=torch.ones(R)).obs[0, :, 0].tolist() == [
        value(5, 0, 0),
        value(7, 0, 1),
    ]


def test_every_transition_is_drawn_equally_often():
    batch = replay_of(8, capacity=6).sample(Stream([0, 1], "test").uniform(6000), n_steps=1, gamma=torch.ones(R))
    _, counts = batch.obs[0, :, 0].unique(return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000.0).abs() < 4 * 1000**0.5).all()


def test_runs_draw_by_their_own_numbers():
    replay = replay_of(4)
    uniform = torch.tensor([[0.01, 0.99], [0.99, 0.01]], dtype=torch.float64)
    batch = replay.sample(uniform, n_steps=1, gamma=torch.ones(R))
    assert batch.obs[..., 0].tolist() == [[value(0, 0, 0), value(3, 0, 1)], [value(3, 1, 1), value(0, 1, 0)]]


def test_observation_an_episode_ended_in_is_stored_where_it_ended():
    batch = every(replay_of(2, at_1={"terminated": [(0, 0)], "truncated": [(1, 1)]}))
    assert batch.next_obs[0, :, 0].tolist() == [0.5, 1.5, 100.25, 101.5]
    assert batch.next_obs[1, :, 0].tolist() == [10.5, 11.5, 110.5, 111.25]
    assert batch.terminated.tolist() == [[False, False, True, False], [False] * 4]


def test_n_step_rewards_by_hand():
    # Run 0, env 0 pays 0, 100, 200, 300, ...; gamma = 1/2: 0 + 50 + 50 = 100, then 100 + 100 + 75 = 275.
    batch = every(replay_of(5), n_steps=3, gamma=(0.5, 1.0))
    assert batch.reward[0, [0, 2]].tolist() == [100.0, 275.0]
    assert batch.discount[0, [0, 2]].tolist() == [0.125, 0.125]
    assert batch.next_obs[0, [0, 2], 0].tolist() == [200.5, 300.5]
    assert batch.obs[0, [0, 2], 0].tolist() == [0.0, 100.0]


def test_n_steps_stop_at_the_newest_step():
    batch = every(replay_of(5), n_steps=3, gamma=(0.5, 1.0))
    assert batch.reward[0, [6, 8]].tolist() == [300.0 + 200.0, 400.0]
    assert batch.discount[0, [6, 8]].tolist() == [0.25, 0.5]
    assert batch.next_obs[0, [6, 8], 0].tolist() == [400.5, 400.5]


def test_n_steps_stop_at_the_newest_step_of_a_memory_that_has_wrapped_around():
    # The row after the newest step holds the oldest one, which is another episode's.
    batch = every(replay_of(8, capacity=6), n_steps=3, gamma=(0.5, 1.0))
    assert batch.obs[0, ::2, 0].tolist() == [500.0, 600.0, 700.0]
    assert batch.reward[0, ::2].tolist() == [500.0 + 300.0 + 175.0, 600.0 + 350.0, 700.0]
    assert batch.discount[0, ::2].tolist() == [0.125, 0.25, 0.5]


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_n_steps_stop_where_the_episode_ends(kind):
    batch = every(replay_of(5, at_1={kind: [(0, 0)]}), n_steps=4, gamma=(0.5, 1.0))
    first, second, third = (2 * step for step in range(3))  # env 0
    assert batch.reward[0, [first, second]].tolist() == [50.0, 100.0]
    assert batch.discount[0, [first, second]].tolist() == [0.25, 0.5]
    assert batch.next_obs[0, [first, second], 0].tolist() == [100.25, 100.25]
    assert batch.terminated[0, [first, second, third]].tolist() == [kind == "terminated"] * 2 + [False]
    assert batch.reward[0, third].item() == 200.0 + 150.0 + 100.0  # the next episode, to the newest step
    assert batch.reward[0, 1].item() == 1.0 + 101.0 / 2 + 201.0 / 4 + 301.0 / 8  # the other env goes on


def test_rows_without_a_step_are_marked():
    valid = flags((0, 0), (1, 0), (1, 1))  # run 0, env 1 only reset
    batch = every(replay_of(3, at_1={"valid": valid}))
    assert batch.valid.tolist() == [[True, True, True, False, True, True], [True] * 6]


def test_row_without_a_step_is_forgotten_when_it_is_overwritten():
    replay = replay_of(5, capacity=6, at_0={"valid": flags()})
    assert every(replay).valid.all()


def masks(*allowed):
    """``[R, E, 3]``: the same for all."""
    return torch.tensor([action in allowed for action in range(3)]).expand(R, E, 3)


def test_masks_of_both_observations_are_stored():
    replay = replay_of(
        2, at_0={"mask": masks(0), "next_mask": masks(1)}, at_1={"mask": masks(1), "next_mask": masks(2)}
    )
    batch = every(replay)
    assert batch.mask[1].tolist() == [masks(0)[0, 0].tolist()] * 2 + [masks(1)[0, 0].tolist()] * 2
    assert batch.next_mask[1].tolist() == [masks(1)[0, 0].tolist()] * 2 + [masks(2)[0, 0].tolist()] * 2


def test_mask_of_what_an_episode_ended_in_is_stored_where_it_ended():
    end = {"truncated": [(0, 1)], "mask": masks(0), "next_mask": masks(1), "final_mask": masks(0, 2)}
    batch = every(replay_of(1, at_0=end))
    assert batch.next_mask[0].tolist() == [[False, True, False], [True, False, True]]


@pytest.mark.parametrize("final_mask", [None, masks()], ids=["untold", "empty"])
def test_all_actions_count_as_allowed_where_an_episode_ended_if_nothing_else_is_known(final_mask):
    end = {"terminated": [(0, 1)], "mask": masks(0), "next_mask": masks(1), "final_mask": final_mask}
    batch = every(replay_of(1, at_0=end))
    assert batch.next_mask[0].tolist() == [[False, True, False], [True, True, True]]


def test_n_step_mask_is_that_of_the_observation_reached():
    told = {f"at_{t}": {"mask": masks(t % 3), "next_mask": masks((t + 1) % 3)} for t in range(4)}
    batch = every(replay_of(4, **told), n_steps=2)
    assert batch.mask[0, 0].tolist() == masks(0)[0, 0].tolist()
    assert batch.next_mask[0, 0].tolist() == masks(2)[0, 0].tolist()


def test_latest_observations_are_the_newest_ones():
    replay = replay_of(8, capacity=6, at_7={"mask": masks(1)})
    obs, action, mask, valid = replay.latest(3)  # rounded up to whole steps
    assert sorted(obs[1, :, 0].tolist()) == [value(step, 1, env) for step in (6, 7) for env in range(E)]
    assert sorted(action[0].tolist()) == [6 % 3, 6 % 3, 7 % 3, 7 % 3]
    assert mask.shape == (R, 4, 3)
    assert valid is None
    assert replay.latest(100)[0].shape == (R, 6, 1)


def test_latest_observations_that_began_no_step_are_marked():
    obs, _, _, valid = replay_of(3, at_1={"valid": flags((0, 0), (1, 0), (1, 1))}).latest(4)
    assert sorted(obs[0, ~valid[0], 0].tolist()) == [value(1, 0, 1)]
    assert valid[1].all()


def test_box_actions_keep_their_shape_and_type():
    replay = Replay(4, R, E, ObservationSpec.vector(1), BOX, dtype=torch.float64)
    action = torch.arange(8.0, dtype=torch.float64).view(R, E, 2)
    nothing = torch.zeros(R, E, dtype=torch.float64)
    replay.add(
        nothing.unsqueeze(-1), action, None, Transition(nothing.unsqueeze(-1), nothing, flags(), flags(), None, None)
    )
    batch = every(replay)
    assert torch.equal(batch.action, action)
    assert batch.action.dtype == batch.reward.dtype == torch.float64


def test_memory_that_was_never_written_is_zero():
    # A snapshot takes all of it, and what a fresh process finds in its memory is not to be told apart.
    noise = [torch.full((50, 4, 3), 77.0) for _ in range(50)]
    del noise
    replay = Replay(1, 200, 4, ObservationSpec.vector(3), action_spec(spaces.Discrete(2)))
    for name in ("obs", "next_obs", "action", "reward", "terminated", "truncated"):
        assert not getattr(replay, name).view(torch.uint8).any(), name
