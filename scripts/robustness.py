"""`python scripts/robustness.py --help`: the verb `entropic-rl robustness`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="robustness"))
