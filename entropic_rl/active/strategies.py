"""Query strategies by name: from what a model says of the pool to the rows that are asked for next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.active import acquisition
from entropic_rl.active.acquisition import top
from entropic_rl.active.batches import badge, batch_bald, k_center
from entropic_rl.active.config import parse_strategy
from entropic_rl.streams import Stream

__all__ = ["Source", "Strategy", "View", "find_strategy"]

_CONFIGURATIONS = 2**10  # of labels that BatchBALD samples beyond: more change the choice little and cost in proportion
_REPRESENTATIVES = 200  # rows that stand for the pool in expected entropy reduction


@dataclass(frozen=True, slots=True)
class Source:
    """Where a view comes from, for strategies of other libraries, which do their own work.

    Attributes:
        X: ``[P, D]``, the whole pool.
        y: ``[P]``, columns of labels, -1 where unknown.
        candidates: ``[N]``, rows that may be asked for.
        model: the fitted classifier.
        classes: labels of the columns.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    candidates: NDArray[Any]
    model: Any
    classes: NDArray[Any]


class View(Protocol):
    """What a model says of the N rows that may be asked for; each part is worked out when it is asked for."""

    @property
    def log_p(self) -> Tensor:
        """``[N, C]``."""

    @property
    def members(self) -> Tensor:
        """Of each member, ``[N, K, C]``."""

    @property
    def embeddings(self) -> Tensor:
        """What the last layer sees, ``[N, D]``."""

    @property
    def labelled_embeddings(self) -> Tensor:
        """The same of the labelled rows, ``[L, D]``."""

    @property
    def source(self) -> Source:
        """The pool and the model themselves."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to ask.

    Attributes:
        name: as it is written.
        select: view, number of rows and stream -> that many of ``range(N)``, the most wanted first.
        needs_members: whether it looks at :attr:`View.members`.
    """

    name: str
    select: Callable[[View, int, Stream], Tensor]
    needs_members: bool = False


def find_strategy(name: str) -> Strategy:
    """The strategy of a name such as ``margin``, ``tsallis:2`` or ``skactiveml:RandomSampling``.

    Raises:
        ConfigError: there is none, or its order is out of range.
    """
    kind, argument = parse_strategy(name)
    if kind == "skactiveml":
        from entropic_rl.active.skactiveml import peer_strategy

        return Strategy(name, peer_strategy(str(argument)), needs_members=False)
    if kind in ("tsallis", "renyi"):
        return Strategy(name, _scored(lambda view: acquisition.entropy(view.log_p, kind, float(argument or 2.0))))
    return Strategy(name, _SELECT[kind], needs_members=kind in _WITH_MEMBERS)


def _scored(score: Callable[[View], Tensor]) -> Callable[[View, int, Stream], Tensor]:
    def select(view: View, n: int, stream: Stream) -> Tensor:
        return top(score(view), n, stream)

    return select


def _random(view: View, n: int, stream: Stream) -> Tensor:
    return top(acquisition.random(len(view.log_p), stream), n, stream)


def _batch_bald(view: View, n: int, stream: Stream) -> Tensor:
    return batch_bald(view.members, n, stream, n_configurations=_CONFIGURATIONS)[0]


def _badge(view: View, n: int, stream: Stream) -> Tensor:
    return badge(view.log_p, view.embeddings, n, stream)


def _k_center(view: View, n: int, _: Stream) -> Tensor:
    return k_center(view.embeddings, n, view.labelled_embeddings)


def _entropy_density(view: View) -> Tensor:
    return acquisition.density_weighted(acquisition.entropy(view.log_p), view.embeddings)


def _expected_entropy_reduction(view: View, n: int, stream: Stream) -> Tensor:
    members = view.members
    some = top(acquisition.random(len(members), stream), min(len(members), _REPRESENTATIVES), stream)
    return top(acquisition.expected_entropy_reduction(members, members[some]), n, stream)


_WITH_MEMBERS = ("bald", "batch-bald", "expected-entropy-reduction")
_SELECT: dict[str, Callable[[View, int, Stream], Tensor]] = {
    "random": _random,
    "least-confidence": _scored(lambda view: acquisition.least_confidence(view.log_p)),
    "margin": _scored(lambda view: acquisition.margin(view.log_p)),
    "entropy": _scored(lambda view: acquisition.entropy(view.log_p)),
    "bald": _scored(lambda view: acquisition.bald(view.members)),
    "batch-bald": _batch_bald,
    "badge": _badge,
    "k-center": _k_center,
    "entropy-density": _scored(_entropy_density),
    "expected-entropy-reduction": _expected_entropy_reduction,
}
