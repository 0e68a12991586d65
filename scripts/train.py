"""`python scripts/train.py --help`: the verb `entropic-rl train`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="train"))
