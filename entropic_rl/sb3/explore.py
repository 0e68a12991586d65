"""Our exploration meter beside any training of Stable-Baselines3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from entropic_rl.exploration import Cells, ExplorationMeter, cells_of, censored, load_cells
from entropic_rl.sb3.entropy import DumpClock
from entropic_rl.sb3.model import action_units
from entropic_rl.sb3.watch import Watch
from entropic_rl.spaces import action_spec, observation_spec

__all__ = ["ExplorationCallback"]


class ExplorationCallback(BaseCallback):  # type: ignore[misc]  # SB3 publishes no types
    """What a training visited and did, in Stable-Baselines3's logger: ``explore/coverage``, ``explore/n_states``, ...

    The names are those of :meth:`entropic_rl.exploration.ExplorationMeter.read`; what has not happened yet is not
    written. Observations and rewards are raw, whatever ``VecNormalize`` makes of them. The environments are not
    wrapped, as ``EvalCallback`` compares wrappers; a further training with the same callback counts on.

    Args:
        coverage: what counts as one state: ``auto`` (the states of a Discrete or finite environment, else a grid over a
            Box), ``MODULE:NAME`` of a :class:`~entropic_rl.exploration.Cells`, or such an object.
        success_return: return from which an episode counts as a success, for ``explore/first_success``.
        verbose: as in Stable-Baselines3; nothing is printed.

    Attributes:
        meter: with ``visits`` and ``first_visit``; made when the training starts.

    Raises:
        EnvError: from ``learn``: a space is not supported, or ``coverage`` cannot be found.
    """

    meter: ExplorationMeter

    def __init__(
        self, coverage: str | Cells = "auto", *, success_return: float | None = None, verbose: int = 0
    ) -> None:
        super().__init__(verbose)
        self._coverage, self._success_return = coverage, success_return
        self._of: Any = None
        self._last_obs: Any = None
        self._raw: Any = None
        self._clock = DumpClock()

    def _init_callback(self) -> None:
        if self._of is self.model:
            return
        model, normalizer = self.model, self.model.get_vec_normalize_env()
        envs = model.get_env() if normalizer is None else normalizer.venv
        space = envs.observation_space
        self._space, self._action = model.action_space, action_spec(model.action_space)
        if isinstance(self._coverage, Cells):
            cells: Cells | None = self._coverage
        elif self._coverage == "auto":
            metadata = envs.get_attr("metadata")[0]  # of the environment: wrappers have others
            cells = cells_of(space, metadata.get("n_states"), metadata.get("layout"))
        else:
            cells = load_cells(self._coverage)
        self.meter = ExplorationMeter(cells, 1, envs.num_envs, action=self._action)
        self._watch = Watch(
            envs,
            self.meter,
            observation=observation_spec(space),
            action=self._action,
            success_return=self._success_return,
        )
        self._of, self._raw, self._last_obs = model, None, None

    def _on_training_start(self) -> None:
        self._clock.start()
        model, normalizer = self.model, self.model.get_vec_normalize_env()
        if normalizer is not None:
            self._listen(normalizer.venv)
        if model._last_obs is self._last_obs:  # goes on where the last training stopped
            return
        self._watch.begin(model._last_obs if normalizer is None else normalizer.get_original_obs())

    def _on_step(self) -> bool:
        known = self.locals
        answer = self._raw or (known["new_obs"], known["rewards"], known["dones"], known["infos"])
        self._watch.see(self._in_half_ranges(known.get("clipped_actions", known["actions"])), *answer)
        if not isinstance(self.model, OnPolicyAlgorithm) and self._clock.after_step(self.model, known):
            self._record()
        return True

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm) and self._clock.after_rollout(self.locals):
            self._record()

    def _on_training_end(self) -> None:
        self._record()
        self._last_obs = self.model._last_obs
        if self._raw is not None:
            self._watch.venv.__dict__.pop("step_wait", None)

    def _listen(self, envs: Any) -> None:
        """Keep what the environments under a ``VecNormalize`` answer.

        That overwrites the observations that episodes ended in, and clips them: the raw ones cannot be had from it.
        """
        answer = type(envs).step_wait

        def step_wait() -> Any:
            obs, rewards, dones, infos = answer(envs)
            self._raw = obs, rewards, dones, [dict(info) for info in infos]
            return obs, rewards, dones, infos

        envs.step_wait = step_wait

    def _in_half_ranges(self, actions: np.ndarray) -> np.ndarray:
        """Box actions in units where the bounds are -1 and 1, as the meter takes them; others as they are."""
        if not isinstance(self._space, spaces.Box):
            return actions
        centre, half = action_units(self._space)
        return ((actions.reshape(-1, len(half)) - centre) / half).astype(np.float32)

    def _record(self) -> None:
        metrics = self.meter.read()
        metrics["explore/first_success"] = censored(self._watch.episodes.first_success)
        for name, values in metrics.items():
            value = float(values)
            if not math.isnan(value):
                self.logger.record(name, value)
