"""``python -m entropic_rl.fused`` makes all machine code now, for about a minute, so that no training waits for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from entropic_rl import cli
from entropic_rl.fused.compilation import cache_directory, is_compiled


def main() -> None:
    """Train for a rollout, if there is no machine code yet."""
    if not is_compiled("update_runs"):
        with tempfile.TemporaryDirectory() as folder:
            words = "ppo --env CartPole-v1 --kernel fused --n-steps 32 --total-timesteps 32 --eval-episodes 1"
            cli.main([*words.split(), "--run-dir", str(Path(folder) / "run")], verb="train")
    print(f"machine code lies in {cache_directory()}")


if __name__ == "__main__":
    main()
