"""`python scripts/compare.py --help`: the verb `entropic-rl compare`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="compare"))
