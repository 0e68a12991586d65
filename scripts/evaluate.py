"""`python scripts/evaluate.py --help`: the verb `entropic-rl evaluate`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="evaluate"))
