"""`python scripts/study.py --help`: the verb `entropic-rl study`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="study"))
