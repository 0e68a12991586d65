"""`python scripts/wandb_push.py --help`: the verb `entropic-rl wandb-push`."""

import sys

from entropic_rl.cli import main

if __name__ == "__main__":
    sys.exit(main(verb="wandb-push"))
