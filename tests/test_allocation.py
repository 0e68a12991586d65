"""Memory of a process that trains."""

import gc
import subprocess
import sys

_CODE = """
import atexit, gc, sys
from entropic_rl import cli
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # told after what is registered later
try:
    code = cli.main({arguments})
except SystemExit:
    pass
print(gc.get_threshold()[0])
"""


def told_by(arguments):
    command = [sys.executable, "-c", _CODE.format(arguments=arguments), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:]


def test_a_process_of_ours_searches_rarely_and_not_at_its_end():
    assert told_by("") == ["50000", "True"]


def test_a_process_of_others_is_left_as_it_is():
    assert told_by("['--version']") == [str(gc.get_threshold()[0]), "False"]
