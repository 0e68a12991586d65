"""The entropy operator: values, edges and formats by both of its kernels on the CPU, and what is refused."""

import math

import mpmath
import pytest
import torch
from torch import distributions as td
from torch.autograd import grad

from entropic_rl.entropy import categorical_entropy_hvp, log_prob_and_entropy
from entropic_rl.entropy_operator import choice, cpu, library
from tests.logits import plain, random_index, random_logits

MP = mpmath.MPContext()
MP.dps = 40
INF = math.inf
SIZES = [1, 2, 7, 48, 49, 513, 4096, 9001]  # of rows side by side, in one block, in several chunks


@pytest.fixture(params=["compiled", "torch"])
def kernel(request, monkeypatch):
    """Machine code, and what there is without Numba."""
    if request.param == "torch":
        monkeypatch.setattr(cpu, "kernels", lambda: None)
    else:
        assert cpu.kernels() is not None
    return request.param


def exactly(row, chosen, temperature=1.0):
    """Log-probability and entropy with 40 digits."""
    scaled = [MP.mpf(x) / MP.mpf(temperature) for x in row]
    top = max(scaled)
    total = MP.fsum(MP.exp(x - top) for x in scaled)
    mean_gap = MP.fsum(MP.exp(x - top) * (top - x) for x in scaled if x > -MP.inf) / total
    return float(scaled[chosen] - top - MP.log(total)), float(MP.log(total) + mean_gap)


def relative_error(value, truth):
    return (value.double() / torch.as_tensor(truth, dtype=torch.float64) - 1.0).abs().max().item()


# Values


@pytest.mark.parametrize(("n_classes", "n_rows"), [(2, 60), (3, 60), (17, 40), (200, 8), (5000, 2)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_float32_agrees_with_40_digits_down_to_1e_20(kernel, n_classes, n_rows, temperature):
    g = torch.Generator().manual_seed(n_classes)
    spread = temperature * 10 ** torch.linspace(-3.0, math.log10(45.0 + math.log(n_classes)), n_rows).unsqueeze(1)
    offset = torch.tensor([0.0, 30.0, -1000.0, 1000.0])[torch.randint(4, (n_rows, 1), generator=g)]
    logits = offset - spread * (1.0 - 0.1 * torch.rand(n_rows, n_classes, generator=g))
    best = torch.randint(n_classes, (n_rows, 1), generator=g)
    logits = logits.scatter(1, best, offset)
    index = torch.where(torch.arange(n_rows) % 2 == 0, best.squeeze(1), random_index(n_rows, n_classes))
    found = log_prob_and_entropy(logits, index, temperature=temperature)
    truth = [exactly(row, i, temperature) for row, i in zip(logits.tolist(), index.tolist(), strict=True)]
    assert min(entropy for _, entropy in truth) < 1e-15
    assert relative_error(found.entropy, [entropy for _, entropy in truth]) <= 5e-7
    assert relative_error(found.log_prob, [log_prob for log_prob, _ in truth]) <= 5e-7


@pytest.mark.parametrize("n_classes", [2, 600])
def test_a_gap_that_float32_rounds_costs_no_digits(kernel, n_classes):
    # 30 + 20.1 has more digits than float32 holds: alone that is an error of 2e-6 in the weight.
    logits = torch.full((50, n_classes), -INF)
    logits[:, 0], logits[:, 1] = 30.0, -20.0 - torch.arange(50) / 7.0
    truth = [exactly(row[:2], 0)[1] for row in logits.tolist()]
    assert relative_error(log_prob_and_entropy(logits, torch.zeros(50, dtype=torch.int64)).entropy, truth) <= 3e-7


@pytest.mark.parametrize("n_classes", SIZES)
def test_values_of_every_size(kernel, n_classes):
    z, index = random_logits(37, n_classes), random_index(37, n_classes)
    for value, truth in zip(log_prob_and_entropy(z, index), plain(z, index), strict=True):
        torch.testing.assert_close(value.double(), truth, rtol=5e-7, atol=5e-7)


@pytest.mark.parametrize("n_classes", SIZES)
@pytest.mark.parametrize(("temperature", "masked"), [(1.0, False), (0.3, False), (2.5, True)])
def test_gradients_of_every_size(kernel, n_classes, temperature, masked):
    z, index = random_logits(23, n_classes).requires_grad_(), random_index(23, n_classes)
    mask = torch.rand(23, n_classes, generator=torch.Generator().manual_seed(2)) < 0.6
    mask.scatter_(1, index.unsqueeze(1), True)
    mask = mask if masked else None
    weights = random_logits(3, 23, seed=3)
    found = log_prob_and_entropy(z, index, mask=mask, temperature=temperature)
    truth = plain(z, index, mask, temperature)
    (own,) = grad(sum((w * x).sum() for w, x in zip(weights, found, strict=True)), z)
    (other,) = grad(sum((w * x).sum() for w, x in zip(weights.double(), truth, strict=True)), z)
    scale = other.abs().amax(-1, keepdim=True).clamp(min=1e-6)
    torch.testing.assert_close(own / scale, other / scale, rtol=0, atol=3e-6)
    assert mask is None or own[~mask].eq(0.0).all()


@pytest.mark.parametrize("which", range(3))
def test_gradient_of_each_result_alone(kernel, which):
    z, index = random_logits(6, 5).requires_grad_(), random_index(6, 5)
    (own,) = grad(log_prob_and_entropy(z, index)[which].sum(), z)
    (other,) = grad(plain(z, index)[which].sum(), z)
    torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gap", [20.0, 40.0])
def test_a_saturated_choice_keeps_the_digits_of_its_gradient(kernel, gap):
    # z = (20, 0): 1 - p = 1 / (1 + e^20), which float32 cannot tell from 0 next to p = 1; nor float64 that of 40.
    z = torch.tensor([[gap, 0.0]], requires_grad=True)
    (gradient,) = grad(log_prob_and_entropy(z, torch.tensor([0])).log_prob.sum(), z)
    other = float(1 / (1 + MP.exp(gap)))
    assert gradient.squeeze(0).tolist() == pytest.approx([other, -other], rel=1e-6, abs=0.0)


def test_two_classes_by_hand(kernel):
    # p = (3/4, 1/4): log p = log 3 - log 4, H = log 4 - 3/4 log 3, lse = log 4.
    found = log_prob_and_entropy(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0]))
    truth = [math.log(3) - math.log(4), math.log(4) - 0.75 * math.log(3), math.log(4)]
    assert [x.item() for x in found] == pytest.approx(truth, rel=1e-6)


# Edges


@pytest.mark.parametrize("n_classes", [3, 600])
def test_one_allowed_class_is_certain_and_unmoved(kernel, n_classes):
    z = random_logits(2, n_classes).requires_grad_()
    mask = torch.arange(n_classes) == 1
    found = log_prob_and_entropy(z, torch.tensor([1, 1]), mask=mask)
    assert found.log_prob.tolist() == found.entropy.tolist() == [0.0, 0.0]
    torch.testing.assert_close(found.log_partition, z[:, 1].detach())
    assert grad(found.log_prob.sum() + found.entropy.sum(), z)[0].eq(0.0).all()


@pytest.mark.parametrize("n_classes", [4, 700])
def test_impossible_logits_have_no_weight_and_no_gradient(kernel, n_classes):
    z = random_logits(3, n_classes)
    z[:, 2::3] = -INF
    z.requires_grad_()
    index = torch.tensor([0, 1, 2])  # the last is impossible
    found = log_prob_and_entropy(z, index)
    (gradient,) = grad((found.log_prob[:2].sum() + found.entropy.sum()), z)
    kept = z.detach()[:2, (torch.arange(n_classes) % 3 != 2)]
    torch.testing.assert_close(found.entropy[:2], td.Categorical(logits=kept).entropy())
    assert found.log_prob[2].item() == -INF
    assert gradient.isfinite().all()
    assert gradient[:, 2::3].eq(0.0).all()


@pytest.mark.parametrize("n_classes", [3, 600])
def test_a_row_in_which_nothing_is_possible_stays_by_itself(kernel, n_classes):
    z = torch.full((2, n_classes), -INF)
    z[1] = 0.0
    z.requires_grad_()
    found = log_prob_and_entropy(z, torch.tensor([0, 0]))
    assert found.entropy.tolist() == pytest.approx([0.0, math.log(n_classes)])
    assert found.log_partition[0].item() == found.log_prob[0].item() == -INF
    assert grad(found.entropy.sum() + found.log_prob.sum(), z)[0][0].eq(0.0).all()


@pytest.mark.parametrize("bad", [math.nan, -math.nan, INF])
@pytest.mark.parametrize("n_classes", [3, 600])
def test_numbers_that_are_not_finite_stay_in_their_row(kernel, n_classes, bad):
    z = torch.zeros(2, n_classes)
    z[0, 1] = bad
    z.requires_grad_()
    found = log_prob_and_entropy(z, torch.tensor([0, 0]))
    (gradient,) = grad(found.entropy.sum(), z)
    assert found.entropy[0].isnan()
    assert gradient[0].isnan().any()
    assert found.entropy[1].item() == pytest.approx(math.log(n_classes))
    assert gradient[1].abs().max() < 1e-6


@pytest.mark.parametrize("n_classes", [1, 3, 5000])
@pytest.mark.parametrize("sign", [0, -(2**31)], ids=["positive", "negative"])
def test_what_is_not_a_number_is_so_whatever_its_sign_and_beside_nothing_else(kernel, sign, n_classes):
    z = torch.full((1, n_classes), -INF)
    z[0, 0] = torch.tensor(0x7FC00000 + sign, dtype=torch.int32).view(torch.float32)  # processors make negative ones
    z[0, 4500:] = 0.0
    for said in log_prob_and_entropy(z, torch.tensor([n_classes - 1])):
        assert said.isnan().all()


@pytest.mark.parametrize("n_classes", [2, 1000])
def test_huge_logits(kernel, n_classes):
    z = torch.zeros(2, n_classes)
    z[0, 0], z[1, 0] = 1e4, -1e4
    z = (z - 5e3).requires_grad_()
    found = log_prob_and_entropy(z, torch.tensor([0, 1]))
    assert found.entropy.tolist() == pytest.approx([0.0, math.log(n_classes - 1)])
    assert found.log_prob.tolist() == pytest.approx([0.0, -math.log(n_classes - 1)])
    assert grad(found.entropy.sum(), z)[0].isfinite().all()


def test_ties_of_largest_logits(kernel):
    z = torch.tensor([[5.0, 5.0, 5.0, -60.0]])
    found = log_prob_and_entropy(z, torch.tensor([1]))
    assert found.entropy.item() == pytest.approx(math.log(3), rel=1e-6)
    assert found.log_prob.item() == pytest.approx(-math.log(3), rel=1e-6)


@pytest.mark.parametrize("temperature", [1e-20, 1e-4, 1e6, 1e20])
def test_extreme_temperatures(kernel, temperature):
    z, index = random_logits(4, 9), random_index(4, 9)
    for value, truth in zip(log_prob_and_entropy(z, index, temperature=temperature), plain(z, index, None, temperature),
                            strict=True):  # fmt: skip
        torch.testing.assert_close(value, truth.float(), rtol=2e-6, atol=1e-6)


def test_no_rows(kernel):
    z = torch.zeros(0, 5, requires_grad=True)
    found = log_prob_and_entropy(z, torch.zeros(0, dtype=torch.int64))
    assert [x.shape for x in found] == [(0,)] * 3
    assert grad(found.entropy.sum(), z)[0].shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_that_have_to_be_prepared(kernel, dtype):
    z, index = torch.zeros(0, 5, dtype=dtype, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    found = log_prob_and_entropy(z, index, mask=torch.ones(5, dtype=torch.bool))
    assert [x.shape for x in found] == [(0,)] * 3
    assert grad(found.entropy.sum(), z)[0].shape == (0, 5)


# Shapes and formats


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 1, 3)])
def test_any_leading_axes(kernel, lead):
    z, index = random_logits(*lead, 6).requires_grad_(), torch.randint(6, lead)
    found = log_prob_and_entropy(z, index)
    for value, truth in zip(found, plain(z, index), strict=True):
        torch.testing.assert_close(value, truth.float())
    (own,) = grad(found.entropy.sum(), z)
    torch.testing.assert_close(own, grad(plain(z, index)[1].sum(), z)[0])


def test_logits_that_do_not_lie_in_a_row(kernel):
    z, index = random_logits(5, 8, 6).transpose(1, 2).requires_grad_(), torch.randint(8, (5, 6))
    found = log_prob_and_entropy(z, index)
    torch.testing.assert_close(found.entropy, plain(z, index)[1].float())
    (own,) = grad(found.entropy.sum(), z)
    torch.testing.assert_close(own, grad(plain(z, index)[1].sum(), z)[0])


@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 5), (3, 1, 5), (3, 4, 5)])
def test_masks_broadcast(kernel, shape):
    z, index = random_logits(3, 4, 5), torch.zeros(3, 4, dtype=torch.int64)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.5
    mask[..., 0] = True
    torch.testing.assert_close(log_prob_and_entropy(z, index, mask=mask).entropy, plain(z, index, mask)[1].float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n_classes", [5, 3000])
def test_half_precision_is_summed_and_said_in_float32(kernel, dtype, n_classes):
    z, index = random_logits(40, n_classes, dtype=dtype).requires_grad_(), random_index(40, n_classes)
    found = log_prob_and_entropy(z, index)
    for value, truth in zip(found, plain(z, index), strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, truth.float(), rtol=1e-6, atol=1e-6)
    (own,) = grad(found.log_prob.sum() + found.entropy.sum(), z)
    log_prob, entropy, _ = plain(z, index)
    assert own.dtype == dtype
    torch.testing.assert_close(own, grad(log_prob.sum() + entropy.sum(), z)[0], rtol=1e-2, atol=1e-6)


def test_autocast_changes_nothing(kernel):
    z, index = random_logits(4, 50, dtype=torch.bfloat16), random_index(4, 50)
    with torch.autocast("cpu", torch.bfloat16):
        found = log_prob_and_entropy(z, index)
    assert all(torch.equal(a, b) for a, b in zip(found, log_prob_and_entropy(z, index), strict=True))
    assert found.entropy.dtype == torch.float32


@pytest.mark.parametrize(("n_rows", "n_classes"), [(70_000, 3), (300, 1000), (3, 100_000)])
def test_threads_leave_every_bit_as_it_is(n_rows, n_classes):
    z, index = random_logits(n_rows, n_classes).requires_grad_(), random_index(n_rows, n_classes)

    def all_of_it():
        found = log_prob_and_entropy(z, index)
        return [*found, *grad(found.log_prob.sum() + found.entropy.sum(), z)]

    alone = all_of_it()
    torch.set_num_threads(2)  # one again in the next test
    assert all(torch.equal(a, b) for a, b in zip(alone, all_of_it(), strict=True))


@pytest.mark.parametrize("n_classes", [3, 18, 100, 5000])
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(n_classes):
    z, index = random_logits(100, n_classes).requires_grad_(), random_index(100, n_classes)

    def all_of_it(rows):
        found = log_prob_and_entropy(z[rows], index[rows])
        return [*found, grad(found.log_prob.sum() + found.entropy.sum(), z)[0][rows]]

    for together, alone in zip(all_of_it(slice(None)), all_of_it(slice(41, 42)), strict=True):
        assert torch.equal(together[41:42], alone)


def test_past_the_dispatcher_and_through_it_the_bits_are_the_same(kernel):
    z, index = random_logits(6, 7).requires_grad_(), random_index(6, 7)
    own, other = choice.apply(z, index, None, 1.0), library.choice(z, index, None, 1.0)[:3]
    assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))
    assert torch.equal(grad(sum(x.sum() for x in own), z)[0], grad(sum(x.sum() for x in other), z)[0])


def test_float32_hessian_vector_product_has_its_closed_form(kernel):
    z, v = random_logits(4, 9).requires_grad_(), random_logits(4, 9, seed=1)
    (first,) = grad(log_prob_and_entropy(z, random_index(4, 9)).entropy.sum(), z, create_graph=True)
    torch.testing.assert_close(grad((first * v).sum(), z)[0], categorical_entropy_hvp(z.detach(), v))


def test_defaults_of_torch_do_not_matter(kernel):
    z, index = random_logits(4, 5).requires_grad_(), random_index(4, 5)
    truth = log_prob_and_entropy(z, index)
    (slope,) = grad(truth.entropy.sum(), z)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = log_prob_and_entropy(z, index)
            (own,) = grad(found.entropy, z, torch.ones(4, dtype=torch.float32, device="cpu"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, truth, strict=True))
    assert torch.equal(own, slope)


# What is refused


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"temperature": 0.0}, "temperature must be a positive number, got 0.0"),
        ({"temperature": math.nan}, "temperature must be a positive number, got nan"),
        ({"temperature": INF}, "temperature must be a positive number, got inf"),
        ({"index": torch.tensor([0])}, r"index must be int64 of shape \(2,\) for logits \(2, 3\), got torch.int64 of"),
        ({"index": torch.tensor([0, 1], dtype=torch.int32)}, "index must be int64 .* got torch.int32 of shape"),
        ({"mask": torch.ones(2, 3)}, "mask must be a boolean tensor"),
        ({"mask": torch.tensor([True, False])}, r"mask must broadcast to the logits \(2, 3\), got \(2,\)"),
        ({"mask": torch.tensor([[True] * 3, [False] * 3])}, r"at least one action, but row \[1\] allows none"),
        ({"logits": torch.zeros(2, 0)}, "A >= 1"),
        (
            {"logits": torch.zeros(2, 3, dtype=torch.int64)},
            "logits must be of a floating point format, got torch.int64",
        ),
    ],
)
def test_bad_arguments_are_refused(change, text):
    arguments = {"logits": torch.zeros(2, 3), "index": torch.tensor([0, 1])} | change
    with pytest.raises(ValueError, match=text):
        log_prob_and_entropy(**arguments)


@pytest.mark.parametrize("index", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int32)])
def test_what_is_read_by_address_is_looked_at_before(index):
    with pytest.raises(ValueError, match="index: expected 2 of int64 on the CPU, got"):
        library.choice(torch.zeros(2, 3), index, None, 1.0)


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("n_rows", [5, 100_000])
def test_a_class_that_is_not_there_is_named(kernel, n_rows, bad):
    index = torch.zeros(n_rows, dtype=torch.int64)
    index[4] = bad
    with pytest.raises(ValueError, match=f"index must hold classes from 0 to 2, but that of row 4 is {bad}"):
        log_prob_and_entropy(torch.zeros(n_rows, 3), index)
