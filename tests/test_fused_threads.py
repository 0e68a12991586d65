"""Who has the cores while machine code works."""

import os
import threading
import time

import numpy as np
import pytest
import torch

from entropic_rl.fused.compilation import compiled, fetch_add
from entropic_rl.fused.threads import _threads, on_threads, together, torch_on_one_thread


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)  # one again in the next test


def test_machine_code_keeps_the_threads_that_torch_gives_up(two_threads):
    together = threading.Barrier(2, timeout=30)  # passed by two at once alone
    with torch_on_one_thread():
        assert torch.get_num_threads() == 1
        on_threads(lambda first, last: together.wait(), 2)
    assert torch.get_num_threads() == 2


def test_threads_come_back_after_an_error(two_threads):
    with pytest.raises(KeyError), torch_on_one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_all_pieces_are_worked_on_once(two_threads):
    done = []
    on_threads(lambda first, last: done.extend(range(first, last)), 7)
    assert sorted(done) == list(range(7))


def test_work_is_done_although_nobody_is_free_to_help(two_threads):
    leave, calls = threading.Event(), []
    with torch_on_one_thread():
        _threads(1).submit(leave.wait, 30)  # whoever would help
        together(lambda: calls.append("here"), 2)
    leave.set()
    assert calls == ["here"]


def test_an_error_of_a_helper_is_told(two_threads):
    begun, caller = threading.Barrier(2, timeout=30), threading.get_ident()

    def work():
        begun.wait()
        if threading.get_ident() != caller:
            raise KeyError

    with torch_on_one_thread(), pytest.raises(KeyError):
        together(work, 2)


def test_nobody_works_on_when_the_calling_thread_has_failed(two_threads):
    begun, done = threading.Barrier(2, timeout=30), []

    def work(first, last):
        begun.wait()
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.1)
        done.append(first)

    with torch_on_one_thread(), pytest.raises(KeyboardInterrupt):
        on_threads(work, 8)
    assert len(done) == 1  # the memory that it works on is the caller's
    time.sleep(0.2)
    assert len(done) == 1


def test_integers_that_threads_add_to_lose_nothing(two_threads):
    total, begun = np.zeros(2, np.int64), threading.Barrier(2, timeout=30)

    def work():
        begun.wait()  # a helper that comes late is not waited for
        _add(total, 100_000)

    with torch_on_one_thread():
        together(work, 2)
    assert total.tolist() == [0, 200_000]


@compiled
def _add(total, n):
    for _ in range(n):
        fetch_add(total, 1, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is what the child is asked about
def test_a_forked_child_has_threads_of_its_own(two_threads):
    meeting = threading.Barrier(2, timeout=20.0)
    on_threads(lambda first, last: meeting.wait(), 2)
    child = os.fork()
    if not child:
        try:
            on_threads(lambda first, last: meeting.wait(), 2)  # a thread that was the parent's would never come
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
