"""Who has the cores while machine code works."""

import threading

import pytest
import torch

from entropic_rl.fused.threads import on_threads, torch_on_one_thread


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
