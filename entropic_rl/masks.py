"""Which actions a vector environment allows, if it says so.

Two conventions are understood: ``info["action_mask"]``, as PettingZoo and several Gymnasium environments have it, and a
method ``action_masks()``, as sb3-contrib's MaskablePPO asks for. Either gives booleans (or 0 and 1), one per action;
for MultiDiscrete actions those of all components side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from entropic_rl.errors import EnvError
from entropic_rl.spaces import ActionSpec

__all__ = ["MaskReader"]


class MaskReader:
    """Reads the masks of N sub-environments after every reset and step.

    Args:
        env: the vector env.
        action: the policy head, which tells how many entries a mask has.

    Raises:
        EnvError: a mask of another width, one that allows nothing, or masks for actions that cannot be masked.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], action: ActionSpec) -> None:
        self._env, self._action = env, action
        self._has_method: bool | None = None  # not known before the first reset
        self._current: np.ndarray | None = None

    def after_reset(self, info: dict[str, Any]) -> np.ndarray | None:
        """Masks ``[N, A]`` for what to do first; None if the environment has none."""
        if self._has_method is None:
            self._has_method = "action_mask" not in info and _has_action_masks(self._env)
        return self.after_step(info)

    def after_step(self, info: dict[str, Any], ended: Any = None) -> np.ndarray | None:
        """Masks ``[N, A]`` for what to do next; None if the environment has none.

        Args:
            info: what the environment told.
            ended: ``[N]`` boolean, which episodes have ended without a new one having begun. Nothing will be done
                there, and where nothing is allowed all actions count as allowed.
        """
        if self._has_method:
            return self._checked(np.asarray(_action_masks(self._env)), ended)
        if "action_mask" not in info:
            return self._current
        masks, given = np.asarray(info["action_mask"]), info.get("_action_mask")
        if given is not None and not np.all(given) and self._current is not None:  # a partial reset
            masks = np.where(np.asarray(given)[:, None], masks, self._current)
        self._current = self._checked(masks, ended)
        return self._current

    def of_ended(self, info: dict[str, Any]) -> np.ndarray | None:
        """Masks at the observations that episodes ended in, right only there; None if they are not told."""
        final = info.get("final_info", {})
        return np.asarray(final["action_mask"]).astype(bool) if "action_mask" in final else None

    def _checked(self, masks: np.ndarray, ended: Any) -> np.ndarray:
        width = self._action.n_outputs
        if self._action.kind not in ("categorical", "multi-discrete"):
            raise EnvError(f"action masks need Discrete or MultiDiscrete actions, got {self._action.kind} ones")
        if masks.shape != (self._env.num_envs, width):
            raise EnvError(f"an action mask has to have {width} entries, one per action, got {masks.shape[1:]}")
        masks = masks.astype(bool)
        parts = np.split(masks, np.cumsum(self._action.nvec)[:-1], axis=1) if self._action.nvec else [masks]
        for part in parts:
            if ended is not None:
                part[np.asarray(ended) & ~part.any(1)] = True  # a view of the masks
            if not part.any(1).all():
                index = int(np.flatnonzero(~part.any(1))[0])
                raise EnvError(f"the action mask of environment {index} allows no action; end the episode instead")
        return masks


def _has_action_masks(env: VectorEnv[Any, Any, Any]) -> bool:
    if hasattr(env, "action_masks"):
        return True
    copies = getattr(env, "envs", None)  # stepped one by one; for those in processes ``make_vector_env`` has asked
    if copies is None:
        return bool(getattr(env, "offers_action_masks", False))
    return all(copy.has_wrapper_attr("action_masks") for copy in copies)


def _action_masks(env: VectorEnv[Any, Any, Any]) -> Any:
    return env.action_masks() if hasattr(env, "action_masks") else env.call("action_masks")  # type: ignore[attr-defined]
