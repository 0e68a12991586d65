"""``python -m entropic_rl.fused`` makes all machine code now, for a minute or two, so that no training waits for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from entropic_rl import cli
from entropic_rl.fused.compilation import cache_directory, is_compiled

# What an agent learns by -> a training that makes it: of a rollout, of a gradient step.
_TRAININGS = {
    "update_runs": "ppo --env CartPole-v1 --n-steps 32 --total-timesteps 32",
    "step_networks": "sac --env Pendulum-v1 --learning-starts 1 --total-timesteps 2",
}


def main() -> None:
    """Train for a moment by each, if there is no machine code of it yet."""
    for name, words in _TRAININGS.items():
        if not is_compiled(name):
            with tempfile.TemporaryDirectory() as folder:
                run = ["--kernel", "fused", "--eval-episodes", "1", "--run-dir", str(Path(folder) / "run")]
                cli.main([*words.split(), *run], verb="train")
    print(f"machine code lies in {cache_directory()}")


if __name__ == "__main__":
    main()
