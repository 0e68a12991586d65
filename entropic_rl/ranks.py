"""Processes that learn one run together: each has a share of the environments and of every minibatch.

All of them hold the same numbers - observations, rollouts, parameters, optimizers - and draw the same random ones. What
is divided is work: env steps, whose results are gathered, and gradients, which are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from entropic_rl.errors import UserError

__all__ = ["ALONE", "FollowerError", "Ranks"]

T = TypeVar("T")


class FollowerError(SystemExit):
    """How a process ends whose trouble the first one tells."""


class Ranks:
    """One of ``size`` processes, and what it may ask of the others; all have to ask the same, in the same order.

    Args:
        group: a ``torch.distributed.ProcessGroup``; None for a process alone.
        number: this process's, from 0.
        size: how many there are.
        device: where what is exchanged lies.

    Attributes:
        should_stop: asked here before every env step, if given.
        asked: whether that was so in any of them; the same in all.
    """

    NO_STATE = ("_group", "number", "size", "device", "should_stop", "asked")

    def __init__(self, group: Any, number: int, size: int, *, device: torch.device | str = "cpu") -> None:
        self._group, self.number, self.size = group, number, size
        self.device = torch.device(device)
        self.should_stop: Callable[[], bool] | None = None
        self.asked = False

    @property
    def is_first(self) -> bool:
        """Whether this one writes and speaks."""
        return self.number == 0

    def part(self, n: int) -> tuple[int, int]:
        """Which of n things are this one's, ``start, stop``; shares differ by one at most."""
        return self.number * n // self.size, (self.number + 1) * n // self.size

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all, in place, with the same bits everywhere."""
        if self.size > 1:
            self._call(lambda: self._group.allreduce([tensor]).wait())
        return tensor

    def average(self, numbers: Sequence[Tensor], weight: Tensor | None) -> list[Tensor]:
        """Means over all samples from the means over each process's, in one exchange.

        Args:
            numbers: ``[R, ...]`` or ``[R K, ...]`` each, means over this one's samples; they stay as they are.
            weight: ``[R]``, this one's share of the samples; None if there are no others.
        """
        if weight is None:
            return [*numbers]
        flat = [(x.reshape(len(weight), -1) * weight.unsqueeze(1)).to(numbers[0]) for x in numbers]
        total = self.add_up(torch.cat(flat, 1).contiguous())
        parts = total.split([x.shape[1] for x in flat], 1)
        return [part.reshape(x.shape).to(x.dtype) for part, x in zip(parts, numbers, strict=True)]

    def average_gradient(self, grads: Tensor, weight: Tensor | None, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same of gradients ``[rows, P]`` in place, and of metrics ``[R]`` by name, which are returned."""
        if weight is None:
            return metrics
        averaged, *means = self.average([grads, *metrics.values()], weight)
        grads.copy_(averaged)
        return dict(zip(metrics, means, strict=True))

    def gather(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Everybody's tensors, in the order of the processes; they have the same shapes and types everywhere."""
        if self.size == 1:
            return [[*tensors]]
        packed = torch.cat([_as_bytes(tensor) for tensor in tensors]).to(self.device)
        received = [torch.empty_like(packed) for _ in range(self.size)]
        self._call(lambda: self._group.allgather([received], [packed]).wait())
        return [_from_bytes(each, tensors) for each in received]

    def lowest(self, number: int) -> int:
        """The smallest of everybody's numbers."""
        return min(int(theirs) for (theirs,) in self.gather([torch.tensor(number)]))

    def first_says(self, yes: bool) -> bool:
        """What the first process says to a question."""
        return bool(self.gather([torch.tensor(yes)])[0][0])

    def texts(self, text: str) -> list[str]:
        """Everybody's texts."""
        mine = torch.frombuffer(bytearray(text.encode() + b"\n"), dtype=torch.uint8)
        sizes = [int(size) for (size,) in self.gather([torch.tensor(len(mine))])]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(mine)] = mine
        return [
            bytes(each[: size - 1].tolist()).decode()
            for (each,), size in zip(self.gather([padded]), sizes, strict=True)
        ]

    def agree(self, function: Callable[[], T]) -> T:
        """What a function gives here, if it raised no :class:`UserError` anywhere.

        Raises:
            UserError: it did; in the first process.
            FollowerError: in the others.
        """
        error: UserError | None = None
        try:
            found = function()
        except UserError as caught:
            if self.size == 1:
                raise
            error = caught
        if self.size > 1:
            self.raise_first(self.texts("" if error is None else str(error)))
        return found

    def raise_first(self, texts: Sequence[str]) -> None:
        """Nothing, if all texts are empty.

        Raises:
            UserError: the first that is not, in the first process.
            FollowerError: in the others.
        """
        told = next(((number, text) for number, text in enumerate(texts) if text), None)
        if told is None:
            return
        if not self.is_first:
            raise FollowerError(2)
        raise UserError(told[1] if told[0] == 0 else f"process {told[0]} of {self.size}: {told[1]}")

    def stopping(self, should_stop: Callable[[], bool] | None) -> Callable[[], bool] | None:
        """``should_stop`` of any process, as all of them come to know it with the next env step."""
        if self.size == 1:
            return should_stop
        self.should_stop = should_stop
        return lambda: self.asked

    def _call(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:  # whatever the library underneath calls it
            if not self.is_first:
                raise FollowerError(1) from None
            raise UserError(
                f"another of the {self.size} processes of this training has ended or cannot be reached: its own lines "
                f"say why ({str(error).strip().splitlines()[0][:120]})"
            ) from None


ALONE = Ranks(None, 0, 1)
"""A process without others."""


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _from_bytes(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    sizes = [tensor.numel() * tensor.element_size() for tensor in like]
    parts = zip(packed.split(sizes), like, strict=True)
    # A copy begins where a number of any size may begin.
    return [part.clone().view(tensor.dtype).view(tensor.shape).to(tensor.device) for part, tensor in parts]
