"""Measurements: ``python scripts/benchmark.py --help``. Every number in docs/benchmarks.md came from one of these."""

import sys

from entropic_rl.benchmarks.cli import main

if __name__ == "__main__":
    sys.exit(main())
