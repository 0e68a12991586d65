"""Features of observations: images in every layout, stacked vectors, attention, and what each refuses."""

import pytest
import torch

from entropic_rl.conv_layers import patch_numbers
from entropic_rl.errors import ConfigError
from entropic_rl.features import make_features
from entropic_rl.networks import ParameterRows
from entropic_rl.spaces import ObservationSpec, observation_spec
from entropic_rl.streams import Stream

SEEDS = [1, 2]
H, W, C, K, B = 6, 7, 2, 3, 5


def images_of(shape, frames=1):
    n = torch.Size(shape).numel()
    return ObservationSpec(n * frames, lambda obs: obs, frames=frames, image=shape)


def build(observation, kind="auto", n_outputs=None, seeds=SEEDS):
    features = make_features(kind, observation, n_outputs)
    params = ParameterRows(features.shapes(), len(seeds), dtype=torch.float64)
    features.initialise(params, Stream(seeds, "initialisation"))
    return features, params


def some(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("frames", [1, K])
def test_an_image_is_the_same_in_every_layout(frames):
    images = some(len(SEEDS), B, frames, H, W, C)
    last, params = build(images_of((H, W, C), frames))
    first, _ = build(images_of((C, H, W), frames))
    expected = last(params, images.flatten(2))
    torch.testing.assert_close(first(params, images.movedim(-1, 3).flatten(2)), expected, rtol=0.0, atol=0.0)
    assert expected.shape == (len(SEEDS), B, 128)


def test_images_without_channels_have_one():
    images = some(len(SEEDS), B, H * W * K)
    grey, params = build(images_of((H, W), K))
    channel, _ = build(images_of((H, W, 1), K))
    assert torch.equal(grey(params, images), channel(params, images))


def test_the_latest_images_are_channels_of_one():
    images = some(len(SEEDS), B, K, H, W, C)
    stacked, params = build(images_of((H, W, C), K))
    one, _ = build(images_of((H, W, K * C)))
    side_by_side = torch.cat(images.unbind(2), -1)
    assert torch.equal(stacked(params, images.flatten(2)), one(params, side_by_side.flatten(2)))


def test_without_gradients_images_are_taken_in_blocks_that_give_the_same(monkeypatch):
    features, params = build(images_of((H, W, C)))
    images = some(len(SEEDS), B, H * W * C)
    expected = features(params, images)
    monkeypatch.setattr(
        "entropic_rl.features._BLOCK", 2 * len(SEEDS) * patch_numbers(features.cnn.image, features.cnn.layers)
    )
    with torch.no_grad():
        found = features(params, images)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)


def test_numbers_of_patches_are_what_the_convolutions_hold(monkeypatch):
    features, params = build(images_of((H, W, C)))
    held = []
    from entropic_rl import convolution

    patches = convolution._Patches.apply
    monkeypatch.setattr(convolution._Patches, "apply", lambda *x: held.append(patches(*x)) or held[-1])
    features(params, some(1, 1, H * W * C).expand(len(SEEDS), 1, -1))
    assert sum(x[0].numel() for x in held) == patch_numbers(features.cnn.image, features.cnn.layers)


def test_stacked_vectors_are_zero_where_nothing_was_seen():
    features, params = build(ObservationSpec.vector(2).stacked(K))
    x = torch.tensor([[[torch.nan, torch.nan, 1.0, 2.0, 3.0, 4.0]]] * 2)
    assert features(params, x).tolist() == [[[0.0, 0.0, 1.0, 2.0, 3.0, 4.0]]] * 2
    assert features.n_outputs == 2 * K


def test_attention_sees_what_there_was():
    features, params = build(ObservationSpec.vector(2).stacked(K), "attention")
    x = some(len(SEEDS), B, 2 * K)
    unseen = x.clone()
    unseen[..., :2] = torch.nan
    short, _ = build(ObservationSpec.vector(2).stacked(K), "attention")
    found = features(params, unseen)
    assert found.isfinite().all()
    assert found.shape == (len(SEEDS), B, features.n_outputs) == (len(SEEDS), B, 2 + 32)
    newest, found = found.split([2, 32], -1)
    assert newest.equal(x[..., -2:])
    cut = short.transformer(params, x.unflatten(-1, (K, 2))[:, :, 1:], torch.ones(len(SEEDS), B, K - 1).bool())
    torch.testing.assert_close(found, cut, rtol=0.0, atol=1e-12)
    assert (found - features(params, x)[..., 2:]).abs().amax() > 1e-3


def test_flat_observations_need_nothing():
    assert make_features("auto", ObservationSpec.vector(4)) is None
    assert make_features("flat", images_of((H, W, C))) is None


@pytest.mark.parametrize(
    ("kind", "observation", "n_outputs", "message"),
    [
        ("cnn", ObservationSpec.vector(4), None, "cnn needs images, got 4 numbers; use --features flat"),
        ("attention", ObservationSpec.vector(4), None, "give, say, --frame-stack 8"),
        ("attention", images_of((H, W, C), K), None, "attention needs vectors, got images; use --features cnn"),
        ("attention", ObservationSpec.vector(4).stacked(2), 30, "expected a multiple of the 4 heads"),
        ("cnn", images_of((2, 9, 9)), None, None),
        ("auto", images_of((2, 2, 2)), None, "at least 3 x 3 pixels, got 2 x 2.*use --features flat"),
    ],
)
def test_features_that_do_not_fit_are_refused(kind, observation, n_outputs, message):
    if message is None:
        make_features(kind, observation, n_outputs)
        return
    with pytest.raises(ConfigError, match=message):
        make_features(kind, observation, n_outputs)


def test_images_are_told_from_vectors_by_their_space():
    import gymnasium as gym
    import numpy as np

    def spec(*shape, high=255, dtype=np.uint8):
        return observation_spec(gym.spaces.Box(0, high, shape, dtype))

    assert spec(8, 9, 3).image == (8, 9, 3)
    assert spec(8, 9).image == (8, 9)
    assert spec(12).image is None
    assert spec(8, 9, 3, high=10).image is None
    assert spec(8, 9, 3, dtype=np.float32).image is None
