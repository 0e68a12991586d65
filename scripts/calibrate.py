"""`python scripts/calibrate.py --help`: the verb `entropic-rl calibrate`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="calibrate"))
