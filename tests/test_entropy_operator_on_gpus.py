"""The entropy operator's kernels of GPUs: on one, and by Triton's interpreter."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import grad

from entropic_rl.entropy import log_prob_and_entropy
from entropic_rl.entropy_operator import formulas, gpu
from tests.logits import plain, random_index, random_logits

INF = math.inf


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_classes", [5, 50_257])
def test_gpus_say_what_the_formulas_say(dtype, n_classes):
    z, index = random_logits(9, n_classes, dtype=dtype).cuda().requires_grad_(), random_index(9, n_classes).cuda()
    found = log_prob_and_entropy(z, index, temperature=0.8)
    for value, truth in zip(found, formulas.forward(z.detach(), index, None, 0.8)[:3], strict=True):
        torch.testing.assert_close(value, truth, rtol=2e-6, atol=1e-5)
    (own,) = grad(found.log_prob.sum() + found.entropy.sum(), z)
    log_prob, entropy, _ = plain(z, index, None, 0.8)
    torch.testing.assert_close(own, grad(log_prob.sum() + entropy.sum(), z)[0], rtol=1e-2, atol=1e-6)


@pytest.fixture(scope="module")
def interpreted():
    """The kernels of GPUs, as Triton's interpreter runs them on tensors of the CPU."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")  # looked at on import
        for name in [name for name in sys.modules if name.split(".")[0] == "triton" and "._C" not in name]:
            patch.delitem(sys.modules, name)
        path = Path(gpu.__file__).with_name("triton_kernels.py")
        spec = importlib.util.spec_from_file_location("interpreted_kernels", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        patch.setattr(gpu, "kernels", lambda: module)
        patch.setattr(gpu, "_MOST", 16)  # so that few numbers are several chunks
        yield gpu


@pytest.mark.parametrize("n_classes", [1, 5, 16, 61])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_triton_says_what_the_formulas_say(interpreted, n_classes, masked, dtype):
    z, index = random_logits(7, n_classes, dtype=dtype), random_index(7, n_classes)
    z[:2, 1:] -= 20.0
    mask = torch.rand(7, n_classes, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[:, 0] = True
    mask = mask if masked else None
    own, truth = (kernel.forward(z, index, mask, 0.8) for kernel in (interpreted, formulas))
    for value, other in zip(own, truth, strict=True):
        torch.testing.assert_close(value, other, rtol=2e-6, atol=1e-6 if value is own[2] else 0.0)
    by = random_logits(3, 7, seed=3).unbind()
    slopes, others = (kernel.backward(by, z, index, mask, 0.8, truth[3]) for kernel in (interpreted, formulas))
    assert slopes.dtype == dtype
    limit = 3e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(slopes, others, rtol=limit, atol=limit * 0.1)


def test_triton_at_the_edges(interpreted):
    z = torch.zeros(5, 40)
    z[0, 3], z[1], z[2, 7], z[3, 8:], z[4, 30] = 1e4, -INF, math.nan, -INF, -1e4
    index = torch.tensor([3, 0, 0, 9, 40])  # certain, nothing, not a number, impossible, no class
    log_prob, entropy, log_partition, stats = interpreted.forward(z, index, None, 1.0)
    assert entropy[[0, 1, 3, 4]].tolist() == pytest.approx([0.0, 0.0, math.log(8), math.log(39)])
    assert entropy[2].isnan()
    assert log_prob[[0, 1, 3]].tolist() == [0.0, -INF, -INF]
    assert log_prob[4].isnan()
    assert log_partition[1].item() == -INF
    slopes = interpreted.backward((torch.ones(5), torch.ones(5), None), z, index, None, 1.0, stats)
    assert slopes[[0, 1, 3]].isfinite().all()
    assert slopes[1].eq(0.0).all()


def test_triton_without_index_and_with_one_gradient(interpreted):
    z = random_logits(4, 33)
    own, truth = (kernel.forward(z, None, None, 1.0) for kernel in (interpreted, formulas))
    assert own[0].eq(0.0).all()
    torch.testing.assert_close(own[1], truth[1])
    by = (None, torch.ones(4), None)
    slopes, others = (kernel.backward(by, z, None, None, 1.0, truth[3]) for kernel in (interpreted, formulas))
    torch.testing.assert_close(slopes, others, rtol=1e-5, atol=1e-7)
