"""Row optimizers against torch.optim on each run alone."""

import pytest
import torch

from entropic_rl.optimizers import SGD, Adam, RMSprop, clip_grad_norm_
from entropic_rl.second_order import LBFGS

R, P = 4, 7
RATES = torch.tensor([1e-3, 1e-2, 0.0, 0.3], dtype=torch.float64)
OPTIMIZERS = {
    "adam": (Adam, lambda p, lr: torch.optim.Adam(p, lr=lr, eps=1e-5)),
    "adamw": (
        lambda p: Adam(p, eps=1e-5, weight_decay=0.1),
        lambda p, lr: torch.optim.AdamW(p, lr=lr, eps=1e-5, weight_decay=0.1),
    ),
    "sgd": (SGD, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    "rmsprop": (RMSprop, lambda p, lr: torch.optim.RMSprop(p, lr=lr, alpha=0.99, eps=1e-5)),
}
every_optimizer = pytest.mark.parametrize(("make", "oracle"), OPTIMIZERS.values(), ids=OPTIMIZERS)


def random_rows(seed, dtype=torch.float64):
    return torch.randn(R, P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def everything(params, optimizer):
    return [params.clone(), *(tensor.clone() for tensor in optimizer.state_dict().values())]


@every_optimizer
def test_each_row_moves_as_under_torch_optim(make, oracle):
    params = random_rows(0)
    alone = [torch.nn.Parameter(row.clone()) for row in params]
    optimizers = [oracle([p], lr) for p, lr in zip(alone, RATES.tolist(), strict=True)]
    optimizer = make(params)
    for step in range(20):
        grads = random_rows(step + 1) * 10.0 ** (step % 5 - 3)
        optimizer.step(params, grads, RATES)
        for p, g, single in zip(alone, grads, optimizers, strict=True):
            p.grad = g.clone()
            single.step()
        torch.testing.assert_close(params, torch.stack([p.data for p in alone]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("active", [None, torch.tensor([True, False, True, True])])
@pytest.mark.parametrize("rates", [RATES, torch.full((R,), 0.01, dtype=torch.float64)])
def test_fused_adam_equals_the_elementwise_one(rates, active):
    # On CPU only the fused one runs otherwise.
    params = [random_rows(0), random_rows(0)]
    fused, elementwise = Adam(params[0]), Adam(params[1])
    for step in range(5):
        fused._step_fused(params[0], random_rows(step + 1), rates, active)
        elementwise._step_elementwise(params[1], random_rows(step + 1), rates, active)
    pairs = zip(everything(params[0], fused), everything(params[1], elementwise), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def bowls(seed):
    """Gradients ``[R, P] -> [R, P]`` of R quadratic functions, of curvatures from .1 to 10."""
    turned = torch.linalg.qr(torch.stack([torch.randn(P, P, generator=torch.Generator().manual_seed(seed + r))
                                          for r in range(R)]).double()).Q  # fmt: skip
    curvature = turned @ torch.diag(torch.logspace(-1, 1, P, dtype=torch.float64)) @ turned.mT
    return lambda params: (curvature @ params.unsqueeze(2)).squeeze(2)


def test_lbfgs_moves_each_row_as_torch_does():
    slopes, params, rates = bowls(0), random_rows(0), torch.tensor([1.0, 0.5, 0.1, 0.8], dtype=torch.float64)
    alone = [torch.nn.Parameter(row.clone()) for row in params]
    singles = [
        torch.optim.LBFGS([p], lr=lr, max_iter=1, history_size=3) for p, lr in zip(alone, rates.tolist(), strict=True)
    ]
    optimizer = LBFGS(params, history_size=3)
    for _ in range(15):
        optimizer.step(params, slopes(params), rates)
        grads = slopes(torch.stack([p.data for p in alone]))
        for p, g, single in zip(alone, grads, singles, strict=True):
            p.grad = g.clone()
            single.step(lambda: torch.tensor(0.0))
        torch.testing.assert_close(params, torch.stack([p.data for p in alone]), rtol=1e-9, atol=1e-12)


def test_lbfgs_rests_where_a_row_is_flat_or_inactive_and_a_row_alone_is_the_row_in_the_batch():
    slopes, params = bowls(3), random_rows(0)
    params[3] = 0.0  # the minimum
    kept, single = params.clone(), params[2:3].clone()
    batch, alone, rates = LBFGS(params), LBFGS(single), torch.ones(R, dtype=torch.float64)
    active = torch.tensor([True, False, True, True])
    for _ in range(4):
        grads = slopes(params)
        alone.step(single, grads[2:3], rates[2:3])
        grads[1] = float("nan")
        batch.step(params, grads, rates, active)
    assert torch.equal(params[[1, 3]], kept[[1, 3]])
    assert all(tensor.isfinite().all() for tensor in batch.state_dict().values())
    torch.testing.assert_close(params[2:3], single, rtol=1e-12, atol=0.0)


def test_lbfgs_goes_on_exactly_from_a_saved_state():
    slopes, params = bowls(5), random_rows(0)
    optimizer, rates = LBFGS(params), torch.ones(R, dtype=torch.float64)
    for _ in range(3):
        optimizer.step(params, slopes(params), rates)
    other, resumed = params.clone(), LBFGS(params)
    resumed.load_state_dict(optimizer.state_dict())
    optimizer.step(params, slopes(params), rates)
    resumed.step(other, slopes(other), rates)
    assert torch.equal(params, other)


def test_adam_takes_other_betas_and_eps_as_torch_does():
    params = random_rows(0)
    alone = torch.nn.Parameter(params[1].clone())
    single = torch.optim.Adam([alone], lr=0.01, betas=(0.5, 0.9), eps=1e-3)
    optimizer = Adam(params, betas=(0.5, 0.9), eps=1e-3)
    for step in range(5):
        grads = random_rows(step + 1)
        optimizer.step(params, grads, RATES)
        alone.grad = grads[1].clone()
        single.step()
    torch.testing.assert_close(params[1], alone.data, rtol=1e-12, atol=1e-12)


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_alone_equals_row_in_the_batch_bitwise(make, oracle, dtype):
    together, alone = random_rows(0, dtype), random_rows(0, dtype)[2:3].clone()
    batch, single = make(together), make(alone)
    for step in range(5):
        grads = random_rows(step + 1, dtype)
        batch.step(together, grads, RATES.to(dtype))
        single.step(alone, grads[2:3], RATES[2:3].to(dtype))
    assert all(
        torch.equal(x[2:3], y) for x, y in zip(everything(together, batch), everything(alone, single), strict=True)
    )


@every_optimizer
def test_inactive_rows_and_their_state_stay_bitwise_even_under_nan_gradients(make, oracle):
    params = random_rows(0)
    optimizer = make(params)
    optimizer.step(params, random_rows(1), RATES + 0.1)
    before, grads = everything(params, optimizer), random_rows(2)
    active = torch.tensor([True, False, True, False])
    grads[1] = float("nan")
    optimizer.step(params, grads, RATES + 0.1, active)
    for old, new in zip(before, everything(params, optimizer), strict=True):
        assert torch.equal(old[~active], new[~active])
        assert (old[active] != new[active]).any(1).all()
        assert new.isfinite().all()


@every_optimizer
def test_pausing_a_row_equals_not_having_stepped_it(make, oracle):
    paused, plain = random_rows(0), random_rows(0)
    with_pause, without = make(paused), make(plain)
    for step in range(4):
        with_pause.step(paused, random_rows(9), RATES, torch.zeros(R, dtype=torch.bool))
        with_pause.step(paused, random_rows(step), RATES, torch.ones(R, dtype=torch.bool))
        without.step(plain, random_rows(step), RATES)
    assert torch.equal(paused, plain)


@every_optimizer
def test_saved_state_continues_exactly(make, oracle):
    params = random_rows(0)
    optimizer = make(params)
    optimizer.step(params, random_rows(1), RATES)
    resumed_params, resumed = params.clone(), make(params)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in optimizer.state_dict().items()})
    optimizer.step(params, random_rows(2), RATES)
    resumed.step(resumed_params, random_rows(2), RATES)
    assert torch.equal(params, resumed_params)


def test_first_adam_step_by_hand():
    # m / (1 - b1) = g and sqrt(v / (1 - b2)) = |g|: the step is lr g / (|g| + eps), here .1 * 2/3 and .1 * -1/2.
    params = torch.zeros(1, 2, dtype=torch.float64)
    Adam(params, eps=1.0).step(params, torch.tensor([[2.0, -1.0]]).double(), torch.tensor([0.1]).double())
    assert params.tolist() == [pytest.approx([-0.2 / 3.0, 0.05], rel=1e-7)]


def test_optimizers_do_not_touch_the_gradients_or_build_a_graph():
    params, grads = random_rows(0), random_rows(1).requires_grad_()
    kept = grads.detach().clone()
    Adam(params).step(params, grads, RATES)
    assert torch.equal(grads.detach(), kept)
    assert not params.requires_grad


@pytest.mark.parametrize("max_norm", [0.5, 1e3, [0.1, 1.0, 3.0, 1e3]])
def test_clipping_equals_torch_on_each_row(max_norm):
    grads = random_rows(0) * torch.tensor([[1e-3], [1.0], [10.0], [0.0]], dtype=torch.float64)
    rows = [torch.nn.Parameter(torch.zeros(P, dtype=torch.float64)) for _ in range(R)]
    limits = max_norm if isinstance(max_norm, list) else [max_norm] * R
    norms = []
    for row, g, limit in zip(rows, grads, limits, strict=True):
        row.grad = g.clone()
        norms.append(torch.nn.utils.clip_grad_norm_([row], limit))
    limit = torch.tensor(max_norm, dtype=torch.float64) if isinstance(max_norm, list) else max_norm
    torch.testing.assert_close(clip_grad_norm_(grads, limit), torch.stack(norms), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(grads, torch.stack([row.grad for row in rows]), rtol=1e-12, atol=0.0)


def test_nan_gradient_of_one_run_does_not_reach_another():
    grads = random_rows(0)
    kept = grads[0].clone()
    grads[1, 3] = float("nan")
    clip_grad_norm_(grads, 1e6)
    assert torch.equal(grads[0], kept)
