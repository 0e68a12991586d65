"""Signals that ask to stop: the first one asks, a second SIGINT stops at once, and children are left alone."""

import os
import signal
import threading

import pytest

from entropic_rl.interruption import EXIT_CODE, stopping_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_only_asks(number, capfd):
    with stopping_on_signals() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert stop.signal == number.name
    assert (
        capfd.readouterr().err == f"\n{number.name}: a checkpoint is written at the next step; Ctrl-C stops at once\n"
    )


def test_second_interrupt_stops_at_once():
    with stopping_on_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_second_termination_asks_no_more_than_the_first():
    with stopping_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
    assert stop.signal == "SIGTERM"


def test_handlers_from_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(ZeroDivisionError), stopping_on_signals():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


def test_other_threads_change_no_handlers():
    found = []

    def body():
        with stopping_on_signals() as stop:
            found.append((stop(), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_exit_code_is_that_of_a_failure_that_passes():
    assert os.EX_TEMPFAIL == EXIT_CODE


@pytest.mark.parametrize(("number", "ends_by"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, 0)])
def test_forked_children_are_neither_asked_nor_kept_from_ending(number, ends_by, capfd):
    """Environments in processes of their own: who ends them means it, and Ctrl-C, which all get, is for the parent."""
    with stopping_on_signals():
        child = os.fork()
        if child == 0:
            signal.raise_signal(number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0) == ends_by
    assert capfd.readouterr().err == ""
