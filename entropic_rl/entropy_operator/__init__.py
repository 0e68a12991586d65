"""Log-probability, entropy and log-partition of logits as one operator: kernels for CPU and GPU behind one name.

:mod:`entropic_rl.entropy` is the door. The operator is known to torch as ``torch.ops.entropic_rl.choice``.
"""
