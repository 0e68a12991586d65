"""Convolutions of many runs against torch's convolution, one run at a time."""

import pytest
import torch
from torch.nn import functional as F

from entropic_rl.conv_layers import ConvLayer, default_layers
from entropic_rl.convolution import CNN, _Patches
from entropic_rl.networks import ACTIVATIONS, ParameterRows
from entropic_rl.streams import Stream

SEEDS = [10, 20, 30]
IMAGE = (2, 9, 8)  # height and width differ, and leave a row over
LAYERS = (ConvLayer(5, 4, 2, 1), ConvLayer(3, 2, 1))


def build(seeds=SEEDS, image=IMAGE, layers=LAYERS, *, activation="relu", dtype=torch.float64):
    cnn = CNN("cnn", image, layers, 6, activation)
    params = ParameterRows(cnn.shapes(), len(seeds), dtype=dtype)
    cnn.initialise(params, Stream(seeds, "initialisation"))
    return cnn, params


def randomise(params):
    params.values.copy_(torch.randn(params.values.shape, generator=torch.Generator().manual_seed(1)) * 0.3)


def images(image=IMAGE, batch=4, dtype=torch.float64):
    shape = (len(SEEDS), batch, image[0] * image[1] * image[2])
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def apply(cnn, params, x):
    """Features of flat images ``[R, B, C * H * W]``."""
    return cnn(params, x.unflatten(-1, cnn.image).movedim(2, -1))


def plain(cnn, named, run, x):
    """One run's features of flat images ``[B, C * H * W]`` by torch's own convolution."""
    activate = ACTIVATIONS[cnn.activation]
    x = x.view(-1, *cnn.image)
    for i, layer in enumerate(cnn.layers):
        weight = named[f"cnn.{i}.weight"][run].view(layer.kernel, layer.kernel, -1, layer.channels)
        bias = named[f"cnn.{i}.bias"][run, 0]
        x = activate(F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride=layer.stride, padding=layer.padding))
    n = len(cnn.layers)
    x = x.permute(0, 2, 3, 1).flatten(1)
    return activate(x @ named[f"cnn.{n}.weight"][run] + named[f"cnn.{n}.bias"][run])


@pytest.mark.parametrize("image", [(3, 3, 3), (2, 5, 5), (1, 7, 4), (4, 10, 10), (2, 36, 36), (1, 40, 38)])
def test_each_run_computes_what_torchs_convolution_computes(image):
    cnn, params = build(image=image, layers=default_layers(image))
    randomise(params)
    x = images(image)
    looped = [plain(cnn, params.named(), run, x[run]) for run in range(len(SEEDS))]
    torch.testing.assert_close(apply(cnn, params, x), torch.stack(looped), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_padding_stride_and_activation_are_those_of_torch(activation):
    cnn, params = build(activation=activation)
    randomise(params)
    looped = [plain(cnn, params.named(), run, images()[run]) for run in range(len(SEEDS))]
    torch.testing.assert_close(apply(cnn, params, images()), torch.stack(looped), rtol=1e-10, atol=1e-12)


def test_gradients_of_parameters_and_images_are_those_of_torchs_convolution():
    cnn, params = build()
    randomise(params)
    x = images().requires_grad_()
    named = {name: tensor.clone().requires_grad_() for name, tensor in params.named().items()}
    looped = torch.stack([plain(cnn, named, run, x[run]) for run in range(len(SEEDS))])
    expected = torch.autograd.grad(looped.square().sum(), [x, *named.values()])
    found = torch.autograd.grad(apply(cnn, params, x).square().sum(), [x, *(params[name] for name in named)])
    assert expected[0].ne(0.0).any()
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_first_and_second_derivatives_of_patches_are_those_of_finite_differences():
    x = torch.randn(2, 1, 5, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)

    def patches(x):
        return _Patches.apply(x, 2, 2).square()

    assert torch.autograd.gradcheck(patches, x)
    assert torch.autograd.gradgradcheck(patches, x)


def test_features_of_a_small_network_pass_gradcheck():
    cnn, params = build(seeds=[1, 2], image=(1, 3, 3), layers=(ConvLayer(2, 2),), activation="tanh")
    x = images((1, 3, 3), batch=2)[:2]
    views = tuple(params[name] for name in params.named())
    assert torch.autograd.gradcheck(lambda *_: apply(cnn, params, x), views)


def test_run_alone_equals_run_in_a_batch():
    (cnn, together), (_, alone) = build(), build(SEEDS[1:2])
    torch.testing.assert_close(together.values[1:2], alone.values, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(
        apply(cnn, together, images())[1:2], apply(cnn, alone, images()[1:2]), rtol=0.0, atol=1e-12
    )
    together.backward(apply(cnn, together, images()).square().sum((1, 2)))
    alone.backward(apply(cnn, alone, images()[1:2]).square().sum((1, 2)))
    torch.testing.assert_close(together.grads[1:2], alone.grads, rtol=0.0, atol=1e-12)


def test_gradient_of_a_run_does_not_depend_on_the_other_runs():
    cnn, params = build()
    params.backward(apply(cnn, params, images())[1].sum((0, 1)))
    assert params.grads[1].ne(0.0).any()
    assert params.grads[[0, 2]].eq(0.0).all()


def test_single_precision_gives_single_precision():
    cnn, params = build(dtype=torch.float32)
    _, double = build()
    y = apply(cnn, params, images(dtype=torch.float32))
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), apply(cnn, double, images()), rtol=1e-4, atol=1e-5)


def test_initial_weights_are_orthogonal_with_gain_root_two_and_biases_zero():
    _, params = build()
    for i in range(3):
        weight = params.named()[f"cnn.{i}.weight"]
        n_in, n_out = weight.shape[1:]
        gram = weight.mT @ weight if n_in >= n_out else weight @ weight.mT
        identity = 2.0 * torch.eye(min(n_in, n_out), dtype=torch.float64).expand_as(gram)
        torch.testing.assert_close(gram, identity, rtol=1e-12, atol=1e-12)
        assert params.named()[f"cnn.{i}.bias"].eq(0.0).all()


def test_names_and_shapes_of_the_parameters():
    cnn, _ = build()
    # 9 x 8 pixels, padded to 11 x 10, seen through 4 x 4 at stride 2: 4 x 4 places; through 2 x 2: 3 x 3.
    assert cnn.shapes() == {
        "cnn.0.weight": (4 * 4 * 2, 5),
        "cnn.0.bias": (1, 5),
        "cnn.1.weight": (2 * 2 * 5, 3),
        "cnn.1.bias": (1, 3),
        "cnn.2.weight": (3 * 3 * 3, 6),
        "cnn.2.bias": (1, 6),
    }


def test_large_images_get_the_network_of_mnih_et_al():
    cnn = CNN("cnn", (4, 84, 84), default_layers((4, 84, 84)), 512)
    # Mnih et al. (2015), Methods: 32 filters 8 x 8 stride 4, 64 of 4 x 4 stride 2, 64 of 3 x 3, 512 rectifiers.
    weights = [shape for name, shape in cnn.shapes().items() if name.endswith("weight")]
    assert weights == [(8 * 8 * 4, 32), (4 * 4 * 32, 64), (3 * 3 * 64, 64), (7 * 7 * 64, 512)]


@pytest.mark.parametrize("side", range(3, 45))
def test_default_layers_fit_every_image_from_three_by_three(side):
    for image in ((1, side, side), (1, side, 84), (1, 84, side)):
        assert CNN("cnn", image, default_layers(image), 4).shapes()


@pytest.mark.parametrize("side", range(3, 36))
def test_every_pixel_of_a_small_image_is_seen(side):
    image = (1, side, side)
    cnn, params = build(image=image, layers=default_layers(image), activation="sigmoid")
    x = images(image, batch=1).requires_grad_()
    (gradient,) = torch.autograd.grad(apply(cnn, params, x)[..., 0].sum(), x)
    assert gradient.ne(0.0).all()


@pytest.mark.parametrize("image", [(1, 2, 2), (3, 2, 84), (3, 84, 1)])
def test_smaller_images_are_refused_with_the_smallest_size(image):
    with pytest.raises(ValueError, match=rf"at least 3 x 3 pixels, got {image[1]} x {image[2]}"):
        default_layers(image)


def test_layers_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match=r"layer 1 of cnn has a kernel of 4 x 4.*image of 5 x 9 pixels"):
        CNN("cnn", (1, 5, 9), (ConvLayer(4, 3), ConvLayer(4, 4)), 8)


def test_network_without_convolutions_is_one_layer_over_the_pixels():
    cnn, params = build(layers=())
    assert cnn.shapes() == {"cnn.0.weight": (9 * 8 * 2, 6), "cnn.0.bias": (1, 6)}
    assert apply(cnn, params, images()).shape == (3, 4, 6)
