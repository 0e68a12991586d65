"""What was done to the toolkit, and how it ended: counted over all tests here, printed as one table at the end."""

from collections import Counter

import pytest

from tests.faults.trainings import Trainer

_COUNTS = pytest.StashKey()


@pytest.fixture
def tally(record_property):
    """``tally(fault, outcome)`` counts a case: ``tally("SIGKILL, ppo on CartPole-v1", "resumed bit for bit")``."""

    def count(fault: str, outcome: str, times: int = 1) -> None:
        record_property("fault", (fault, outcome, times))

    return count


@pytest.fixture(scope="session")
def trainer():
    """Trains in processes that can be killed."""
    with Trainer() as trainer:
        yield trainer


def pytest_configure(config):
    config.stash[_COUNTS] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """A row per fault and outcome; properties travel with the reports, also from other processes."""
    counts = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name == "fault":
                        fault, outcome, times = value
                        counts[fault, outcome] += times
    if counts:
        terminalreporter.section("faults and how they ended")
        wide = max(len(fault) for fault, _ in counts)
        for (fault, outcome), times in sorted(counts.items()):
            terminalreporter.write_line(f"{fault:<{wide}}  {times:>6}  {outcome}")
