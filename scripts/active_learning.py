"""`python scripts/active_learning.py --help`: the verb `entropic-rl active-learning`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="active-learning"))
