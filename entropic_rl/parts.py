"""What long work is made of, for whoever does it: trainings and other parts that may be kept and found again; no torch.

Work asks for its parts in an order that its settings decide. :data:`ALONE` keeps nothing;
:class:`entropic_rl.kept_parts.KeptParts` does, so that work can be killed anywhere and goes on with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from entropic_rl.snapshots import Snapshot
    from entropic_rl.supervised.fitting import Fitting, Table

__all__ = ["ALONE", "Parts"]

T = TypeVar("T")


class Parts(Protocol):
    """Trainings and other parts, done or found done.

    Attributes:
        seconds_before: what those parts took that were found.
    """

    seconds_before: float

    def fit(
        self,
        fitting: Fitting,
        table: Table,
        rows: Tensor,
        held_out: Tensor | None = None,
        on_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """``fitting.run`` with these arguments, from wherever it had come to.

        Raises:
            Stopped: it was asked to; what was reached is kept.
        """

    def part(self, make: Callable[[], Snapshot], read: Callable[[Snapshot], T], *made_of: Any) -> T:
        """What ``make`` gives, or gave before of the same tensors, arrays and plain values ``made_of``, as it is read.

        Raises:
            Stopped: it was asked to, before this part.
        """

    def check(self) -> None:
        """Say that this is a place to stop at, after which no more than the work since the last part is done again.

        Raises:
            Stopped: it was asked to.
        """


class _Alone:
    """Nothing is kept, and nobody asks to stop."""

    seconds_before = 0.0

    def fit(
        self,
        fitting: Fitting,
        table: Table,
        rows: Tensor,
        held_out: Tensor | None = None,
        on_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        fitting.run(table, rows, held_out, on_epoch)

    def part(self, make: Callable[[], Snapshot], read: Callable[[Snapshot], T], *made_of: Any) -> T:
        return read(make())

    def check(self) -> None:
        return


ALONE: Parts = _Alone()
"""Work that is done at once."""
