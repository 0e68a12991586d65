"""Threads for machine code, and who else may take the cores that they run on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch

__all__ = ["on_threads", "together", "torch_on_one_thread"]

_granted: ContextVar[int] = ContextVar("threads of machine code")


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Within it, machine code has the threads that torch had, and torch has one.

    Those of OpenMP spin for a while after each operation, on the cores that machine code is waiting for, and what
    torch computes beside it is small.
    """
    n_threads = torch.get_num_threads()
    token = _granted.set(n_threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        _granted.reset(token)


def on_threads(function: Callable[[int, int], Any], n: int) -> None:
    """Call ``function(first, last)`` for ``first`` to ``last`` of n pieces of work on as many threads as torch has, or
    had before :func:`torch_on_one_thread`.

    The calling thread is one of them; whoever is free takes the next piece.
    """
    if _n_threads(n) == 1:
        function(0, n)
        return
    left = iter(range(n))

    def work() -> None:
        try:
            for i in left:
                function(i, i + 1)
        except BaseException:
            for _ in left:  # nobody else begins with what is left
                pass
            raise

    together(work, n)


def together(function: Callable[[], Any], n: int) -> None:
    """Call ``function()``, which does n pieces of work or what others leave of them, on as many threads as torch has,
    or had before :func:`torch_on_one_thread`; the calling one is among them. When it returns, or raises, nobody works
    on: the memory may be the caller's.
    """
    n_helpers = _n_threads(n) - 1
    helpers = [_threads(n_helpers).submit(function) for _ in range(n_helpers)]
    try:
        function()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        _wait(begun)
    for helper in begun:
        helper.result()


def _wait(helpers: list[Future[None]]) -> None:
    """For all of them, also if somebody interrupts it."""
    try:
        wait(helpers)
    except BaseException:
        wait(helpers)
        raise


def _n_threads(n: int) -> int:
    return min(_granted.get(torch.get_num_threads()), n)


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="machine code")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of them
