"""The entropy operator as torch knows it: derivatives of any order, batched, compiled, without numbers."""

import math
import os
import shutil

import pytest
import torch
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck

from entropic_rl.entropy import log_prob_and_entropy
from entropic_rl.entropy_operator import library
from tests.logits import plain, random_index, random_logits

INF = math.inf


# Derivatives of any order


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck_twice(temperature, masked):
    z, index = random_logits(4, 5, scale=1.0, dtype=torch.float64).requires_grad_(), torch.tensor([0, 1, 3, 0])
    mask = torch.tensor([True, True, False, True, True]) if masked else None

    def all_of_it(x):
        return tuple(log_prob_and_entropy(x, index, mask=mask, temperature=temperature))

    assert gradcheck(all_of_it, z)
    assert gradgradcheck(all_of_it, z)


def test_third_derivatives():
    z = random_logits(5, scale=1.0, dtype=torch.float64).requires_grad_()

    def directional(f):
        (first,) = grad(f(z), z, create_graph=True)
        (second,) = grad(first @ torch.arange(5.0, dtype=torch.float64), z, create_graph=True)
        return grad(second.square().sum(), z)[0]

    own = directional(lambda x: log_prob_and_entropy(x, torch.tensor(2)).entropy)
    torch.testing.assert_close(own, directional(lambda x: plain(x, torch.tensor(2))[1]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
def test_forward_derivatives_are_those_of_float64():
    z, v, index = random_logits(4, 6).float(), torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
    with forward_ad.dual_level():
        said = [
            log_prob_and_entropy(forward_ad.make_dual(z.to(dtype), v.to(dtype)), index)
            for dtype in (torch.float32, torch.float64)
        ]
        for narrow, wide in zip(*said, strict=True):
            tangent = forward_ad.unpack_dual(narrow).tangent
            torch.testing.assert_close(tangent, forward_ad.unpack_dual(wide).tangent, check_dtype=False)


def test_second_derivative_where_nothing_is_possible_is_zero():
    z = torch.tensor([[-INF, -INF, -INF], [0.0, 1.0, -INF]], requires_grad=True)
    (first,) = grad(log_prob_and_entropy(z, torch.tensor([0, 0])).entropy.sum(), z, create_graph=True)
    (second,) = grad(first.square().sum(), z)
    assert second.isfinite().all()
    assert second[0].eq(0.0).all()


# What torch asks of operators


@pytest.mark.parametrize(("with_mask", "with_index"), [(False, True), (True, False)])
def test_opcheck(with_mask, with_index):
    z = random_logits(3, 4).requires_grad_()
    mask = torch.tensor([True, False, True, True]).expand(3, 4) if with_mask else None
    index = torch.tensor([0, 2, 3]) if with_index else None
    torch.library.opcheck(library.choice, (z, index, mask, 0.8))
    *_, stats = library.choice(z, index, mask, 0.8)
    by = random_logits(3, 3).unbind()
    given = (by[0].clone().requires_grad_() if with_index else None, by[1].clone().requires_grad_(), None)
    torch.library.opcheck(library.choice_backward, (*given, z, index, mask, 0.8, stats.detach()))


@pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 0), (2, 1)])
def test_vmap_is_a_loop(in_dims):
    batch = 3
    z, index = random_logits(2, 4), torch.tensor([0, 3])
    z = z if in_dims[0] is None else torch.stack([z * i for i in range(1, batch + 1)], in_dims[0])
    index = index if in_dims[1] is None else torch.stack([(index + i) % 4 for i in range(batch)], in_dims[1])

    def gradient(x, i):
        return torch.func.grad(lambda y: sum(part.sum() for part in log_prob_and_entropy(y, i)))(x)

    for f in (lambda x, i: tuple(log_prob_and_entropy(x, i)), lambda x, i: (gradient(x, i),)):
        together = torch.vmap(f, in_dims)(z, index)
        looped = [
            f(*(x if d is None else x.select(d, k) for x, d in zip((z, index), in_dims, strict=True)))
            for k in range(batch)
        ]
        for a, b in zip(together, zip(*looped, strict=True), strict=True):
            torch.testing.assert_close(a, torch.stack(b))


def loss(z, index, mask=None):
    found = log_prob_and_entropy(z, index, mask=mask, temperature=0.9)
    return (-found.log_prob - 0.1 * found.entropy + 1e-4 * found.log_partition.square()).mean()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("masked", [False, True])
def test_compilers_take_it_in_one_graph(backend, masked):
    z, index = random_logits(8, 5).requires_grad_(), random_index(8, 5)
    mask = torch.rand(8, 5, generator=torch.Generator().manual_seed(2)) < 0.5 if masked else None
    if masked:
        mask.scatter_(1, index.unsqueeze(1), True)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(z, index, mask), loss(z, index, mask))
    torch.testing.assert_close(grad(compiled(z, index, mask), z), grad(loss(z, index, mask), z))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of parts of torch that its compiler imports
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
def test_inductor_takes_it_in_one_graph():
    z, index = random_logits(8, 5).requires_grad_(), random_index(8, 5)
    compiled = torch.compile(loss, fullgraph=True)
    torch.testing.assert_close(grad(compiled(z, index), z), grad(loss(z, index), z))


def test_fake_tensors_have_the_right_shapes():
    with torch._subclasses.FakeTensorMode():
        z, index = torch.zeros(2, 3, 4, dtype=torch.bfloat16), torch.zeros(2, 3, dtype=torch.int64)
    found = log_prob_and_entropy(z, index)
    assert [(x.shape, x.dtype) for x in found] == [((2, 3), torch.float32)] * 3
