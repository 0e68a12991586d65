"""Spaces: one-hots as Gymnasium flattens them, actions that land in the space, errors that name what is unsupported."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from entropic_rl.errors import EnvError
from entropic_rl.spaces import action_spec, observation_spec

INF = np.inf
OBSERVATIONS = {
    "box": spaces.Box(-5.0, 5.0, (2, 3)),
    "scalar box": spaces.Box(-1.0, 1.0, ()),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "discrete": spaces.Discrete(5),
    "discrete with start": spaces.Discrete(4, start=-2),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 1]),
    "multi-discrete with start": spaces.MultiDiscrete([2, 3], start=[7, -1]),
    "multi-binary": spaces.MultiBinary(4),
    "square multi-binary": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict({"z": spaces.Discrete(3), "a": spaces.Box(-1.0, 1.0, (2,))}),
    "tuple": spaces.Tuple([spaces.MultiDiscrete([2, 2]), spaces.Box(-1.0, 1.0, (3,))]),
    "nested": spaces.Dict(
        b=spaces.Tuple([spaces.Discrete(2), spaces.Dict(x=spaces.MultiBinary(2))]), a=spaces.Discrete(2)
    ),
}
every_observation = pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)


def samples(space, n=6):
    space.seed(0)
    return [space.sample() for _ in range(n)]


def batched(space, items):
    """The batch of ``items`` as a vector env returns it."""
    return concatenate(space, items, create_empty_array(space, len(items)))


@every_observation
def test_each_observation_is_flattened_as_gymnasium_does(space):
    items, spec = samples(space), observation_spec(space)
    flat = spec.flatten(batched(space, items))
    assert flat.shape == (len(items), spec.size)
    if space != OBSERVATIONS["nested"] and not isinstance(space, spaces.MultiDiscrete):
        assert spec.size == spaces.flatdim(space)
    scale = 255.0 if space == OBSERVATIONS["image"] else 1.0  # bytes are pixels
    oracle = [spaces.flatten(space, item) / np.float32(scale) for item in items]
    np.testing.assert_array_equal(flat, np.asarray(oracle).reshape(flat.shape))


@every_observation
def test_batch_of_one_and_batch_space_samples_flatten_too(space):
    spec = observation_spec(space)
    assert spec.flatten(batched(space, samples(space, 1))).shape == (1, spec.size)
    assert spec.flatten(batch_space(space, 3).sample()).shape == (3, spec.size)


def test_one_hots_by_hand():
    spec = observation_spec(spaces.MultiDiscrete([2, 3], start=[7, -1]))
    assert spec.flatten(np.array([[7, -1], [8, 1]])).tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1]]


def test_dict_entries_follow_in_sorted_order():
    flat = observation_spec(OBSERVATIONS["dict"]).flatten({"z": np.array([1]), "a": np.array([[0.25, 0.5]])})
    assert flat.tolist() == [[0.25, 0.5, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1.0, 1.0, (2,)), None),
        spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(5)),
    ],
    ids=lambda space: type(space).__name__,
)
def test_other_observation_spaces_are_refused_by_name(space):
    with pytest.raises(
        EnvError, match=r"unsupported observation space (?!Dict)\w+\(.*--env-wrappers MODULE:CLASS gives such"
    ):
        observation_spec(space)


def bounds(low, high):
    return np.float32(low), np.float32(high)


ACTIONS = {
    "discrete": (spaces.Discrete(5), "categorical", 5, ()),
    "discrete with start": (spaces.Discrete(3, start=4), "categorical", 3, ()),
    "multi-discrete": (spaces.MultiDiscrete([2, 4]), "multi-discrete", 6, (2,)),
    "multi-discrete with start": (spaces.MultiDiscrete([2, 4], start=[1, -3]), "multi-discrete", 6, (2,)),
    "square multi-discrete": (spaces.MultiDiscrete([[2, 3], [4, 2]]), "multi-discrete", 11, (4,)),
    "multi-binary": (spaces.MultiBinary(3), "bernoulli", 3, (3,)),
    "square multi-binary": (spaces.MultiBinary((2, 2)), "bernoulli", 4, (4,)),
    "box": (spaces.Box(*bounds([-2.0, 0.0], [2.0, 10.0])), "gaussian", 2, (2,)),
    "square box": (spaces.Box(-3.0, 1.0, (2, 2), np.float64), "gaussian", 4, (4,)),
    "unbounded box": (spaces.Box(-INF, INF, (2,)), "gaussian", 2, (2,)),
    "half-bounded box": (spaces.Box(*bounds([0.0, -INF], [INF, 1.0])), "gaussian", 2, (2,)),
}


@pytest.mark.parametrize(("space", "kind", "n_outputs", "event_shape"), ACTIONS.values(), ids=ACTIONS)
def test_every_action_of_a_head_lands_in_the_space(space, kind, n_outputs, event_shape):
    spec, rng = action_spec(space), np.random.default_rng(0)
    assert (spec.kind, spec.n_outputs, spec.event_shape) == (kind, n_outputs, event_shape)
    assert spec.is_continuous == isinstance(space, spaces.Box)
    if spec.is_continuous:
        actions = rng.normal(0.0, 3.0, (50, *event_shape)).astype(np.float32)
    else:
        high = spec.nvec or (2 if kind == "bernoulli" else n_outputs)
        actions = rng.integers(0, high, (50, *event_shape))
    env_actions = spec.to_env(actions)
    assert all(space.contains(action if space.shape else np.int64(action)) for action in env_actions)
    if not spec.is_continuous:  # every choice arrives, and different choices stay different
        assert len(np.unique(env_actions, axis=0)) == len(np.unique(actions, axis=0))


def test_discrete_choices_by_hand():
    assert action_spec(spaces.Discrete(3, start=4)).to_env(np.array([0, 2])).tolist() == [4, 6]
    multi = action_spec(spaces.MultiDiscrete([2, 4], start=[1, -3]))
    assert multi.to_env(np.array([[0, 0], [1, 3]])).tolist() == [[1, -3], [2, 0]]
    assert multi.nvec == (2, 4)


def test_box_actions_are_scaled_from_plus_minus_one_to_the_bounds_and_clipped():
    spec = action_spec(ACTIONS["box"][0])
    unit = np.array([[-1.0, -1.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0], [7.0, -7.0]])
    assert spec.to_env(unit).tolist() == [[-2.0, 0.0], [0.0, 5.0], [1.0, 7.5], [2.0, 10.0], [2.0, 0.0]]


def test_unbounded_dimensions_keep_their_units_and_one_sided_bounds_clip():
    spec = action_spec(ACTIONS["half-bounded box"][0])
    assert spec.to_env(np.array([[25.0, -25.0], [-3.0, 3.0]])).tolist() == [[25.0, -25.0], [0.0, 1.0]]
    assert action_spec(ACTIONS["unbounded box"][0]).to_env(np.array([[25.0, -0.5]])).tolist() == [[25.0, -0.5]]


def test_squashed_actions_are_tanh_scaled_to_the_bounds():
    spec = action_spec(ACTIONS["box"][0], squash_output=True)
    assert spec.kind == "tanh-gaussian"
    u = np.array([[0.5, -0.5], [50.0, -50.0]])
    expected = [[2 * np.tanh(0.5), 5 - 5 * np.tanh(0.5)], [2.0, 0.0]]
    np.testing.assert_allclose(spec.to_env(u), expected, rtol=1e-6)


def test_env_gets_the_dtype_and_shape_of_its_space():
    assert action_spec(ACTIONS["square box"][0]).to_env(np.zeros((3, 4), np.float32)).shape == (3, 2, 2)
    for name, (space, *_) in ACTIONS.items():
        event_shape = ACTIONS[name][-1]
        assert action_spec(space).to_env(np.zeros((2, *event_shape), np.int64)).dtype == space.dtype


def test_squashing_an_unbounded_space_is_refused():
    with pytest.raises(
        EnvError, match=r"squash_output needs an action space with finite bounds, got Box.*; leave it off"
    ):
        action_spec(ACTIONS["half-bounded box"][0], squash_output=True)


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 255, (2,), np.uint8), spaces.Dict(a=spaces.Discrete(2)), spaces.Tuple([spaces.Discrete(2)])]
)
def test_other_action_spaces_are_refused_by_name(space):
    with pytest.raises(
        EnvError, match=r"unsupported action space (Box|Dict|Tuple)\(.*wrap the env with .*TransformAction"
    ):
        action_spec(space)
