"""Thousands of copies of an environment as one Gymnasium ``VectorEnv``: tensors in, tensors out, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from entropic_rl.devices import answers_at_once
from entropic_rl.envs.arguments import check_count
from entropic_rl.envs.draws import Draws
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.errors import EnvError

__all__ = ["BatchedEnv"]

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class BatchedEnv(VectorEnv[Tensor, Tensor, Tensor]):
    """``num_envs`` copies of an environment, each with random streams of its own.

    A copy's random numbers are a function of its seed alone: they do not depend on the copies beside it nor on the
    device, and they are those of the single environment with the same seed. ``reset(seed=s)`` gives copy i the seed
    ``s + i``; a list gives each its own. A later reset without a seed goes on with each copy's next episode.

    In SAME_STEP mode, where an episode ends, the observation returned is the first of the next one, and
    ``info["final_obs"]`` ``[N, ...]`` holds the one it ended in (with the mask ``info["_final_obs"]``). On CPU they are
    there only in steps in which something ended, as in Gymnasium; elsewhere always, because to know would mean to wait
    for the device. DISABLED mode leaves resets to the caller: ``reset(options={"reset_mask": ended})``.

    Args:
        rules: of the environment.
        num_envs: N.
        autoreset_mode: SAME_STEP or DISABLED.
        device: where everything lives.
        max_episode_steps: truncate there, if the rules do not do so earlier.
        validate: check that every choice is in range, every number finite, and no copy is stepped after its end; None
            for on CPU only, as elsewhere it means to wait for the device. Shapes and dtypes are always checked.
        compile: compile the step (needs a C++ compiler on CPU; the first step then takes seconds).
        render_mode: ``rgb_array`` for :meth:`render`.
        arguments: of the environment.

    Attributes:
        state: ``[S, N]``, may be set to numbers of the same kind.

    Raises:
        EnvError: an argument is out of range.
    """

    NO_STATE = ("__doc__", "metadata", "dynamics", "_fused")

    def __init__(
        self,
        rules: type[Dynamics],
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        validate: bool | None = None,
        compile: bool = False,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.NEXT_STEP:
            raise EnvError(
                "autoreset_mode: expected SAME_STEP or DISABLED, got NEXT_STEP; it would waste a step per end"
            )
        check_count("num_envs", num_envs, minimum=1)
        if max_episode_steps is not None:
            check_count("max_episode_steps", max_episode_steps, minimum=1)
        modes = [name for name in rules.render_modes if name == "rgb_array"]
        if render_mode not in (None, *modes):
            raise EnvError(f"render_mode: expected None or one of {modes}, got {render_mode!r}")
        self.__doc__ = rules.__doc__
        self.metadata = {"render_modes": modes, "render_fps": rules.render_fps, "autoreset_mode": mode}
        self.num_envs, self.device, self.render_mode = num_envs, torch.device(device), render_mode
        self.dynamics = rules(**arguments).to(device)
        self.metadata |= {"n_states": self.dynamics.n_states, "layout": self.dynamics.layout}
        self.single_observation_space = self.dynamics.observation_space
        self.single_action_space = self.dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._action_shape = (num_envs, *(self.single_action_space.shape or ()))
        self._n_choices = int(getattr(self.single_action_space, "n", 0))  # 0 for a Box
        limits = [limit for limit in (max_episode_steps, self.dynamics.max_episode_steps) if limit is not None]
        self.max_episode_steps = min(limits, default=None)
        self._same_step = mode is AutoresetMode.SAME_STEP
        at_once = answers_at_once(self.device)
        self._validate = at_once if validate is None else validate
        self._compile = compile
        self._fused: Callable[..., tuple[Tensor, ...]] = partial(
            _step, dynamics=self.dynamics, limit=self.max_episode_steps, same_step=self._same_step
        )
        self._asks = at_once and not compile  # whether anything ended, before it does the work for it
        self._draws: Draws | None = None
        self.state = torch.empty(0)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Begin new episodes, of all copies or of those in ``options["reset_mask"]`` ``[N]``.

        Raises:
            EnvError: a list of seeds or a mask of another length than N.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        mask = self._reset_mask(options)
        if self._draws is None:
            mask = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
            self._draws = Draws(self.dynamics, self._seeds(seed), look_ahead=self._same_step, device=self.device)
        elif seed is not None:
            self._draws = self._draws.reseeded(mask, self._seeds(seed))
        fresh = self._draws.fresh
        self._draws.begin(mask)
        if len(self.state) == 0:
            self.state, self._age = fresh, torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
            self._over, self._next_look = torch.zeros_like(mask), 0
        self.state = torch.where(mask, fresh, self.state)
        self._age = self._age.masked_fill(mask, 0)
        self._over = self._over & ~mask
        return self.dynamics.observe(self.state), {}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Act with ``[N]`` integers or ``[N, D]`` floating-point numbers.

        Returns:
            Observations ``[N, ...]``, rewards ``[N]`` float32, terminated ``[N]``, truncated ``[N]``, info.

        Raises:
            EnvError: not reset yet, stepped after an end, or actions of a wrong shape, dtype or range.
        """
        if self._draws is None:
            raise EnvError("step before reset: call reset(seed=...) first")
        action = self._checked(actions)
        if self._asks:
            return self._step_asking(action, self._draws)
        draws = self._draws
        inputs = (self.state, self._age, draws.fresh, action, draws.step_numbers())
        if self._compile:
            self._compile, self._fused = False, _compiled(self._fused, inputs)
        self.state, self._age, obs, final_obs, reward, terminated, truncated, ended = self._fused(*inputs)
        if not self._same_step:
            self._over = ended.clone()
            return obs, reward, terminated, truncated, {}
        draws.begin(ended, ended.nonzero().squeeze(1) if answers_at_once(self.device) else None)
        return obs, reward, terminated, truncated, {"final_obs": final_obs, "_final_obs": ended}

    def _step_asking(self, action: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """The same as ``_step`` without what is known to be idle: no clock has run out, or nothing has ended."""
        state, reward, terminated = self.dynamics.step(self.state, action, draws.step_numbers())
        self._age += 1
        self._next_look -= 1
        truncated, ended = torch.zeros_like(terminated), terminated
        if self.max_episode_steps is not None and self._next_look <= 0:
            truncated = self._age >= self.max_episode_steps
            ended = terminated | truncated
            running = self._age.masked_fill(truncated, 0) if self._same_step else self._age
            self._next_look = self.max_episode_steps - int(running.max())
        obs, info = self.dynamics.observe(state), {}
        if not self._same_step:
            self._over = ended.clone()  # the caller may change what was returned
        elif len(which := ended.nonzero()):
            info = {"final_obs": obs, "_final_obs": ended.clone()}
            state = torch.where(ended, draws.fresh, state)
            self._age.masked_fill_(ended, 0)
            draws.begin(ended, which.squeeze(1))
            obs = self.dynamics.observe(state)
        self.state = state
        return obs, reward, terminated, truncated, info

    @property
    def age(self) -> Tensor:
        """``[N]``, steps of the episodes so far."""
        return self._age

    @property
    def draws(self) -> Draws:
        """Random numbers to come.

        Raises:
            EnvError: not reset yet.
        """
        if self._draws is None:
            raise EnvError("step before reset: call reset(seed=...) first")
        return self._draws

    def moved(self, state: Tensor) -> None:
        """The copies were stepped elsewhere, to ``state [S, N]``, with ages and draws in place."""
        self.state, self._next_look = state, 0

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every copy; None without ``render_mode``."""
        if self.render_mode is None:
            return None
        frames = [self.dynamics.picture(self.state[:, i].cpu()) for i in range(self.num_envs)]
        return tuple(frame for frame in frames if frame is not None)

    def _seeds(self, seed: int | Sequence[int] | None) -> list[int]:
        if seed is None:
            return [int(s) for s in self.np_random.integers(0, 2**63, self.num_envs)]
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise EnvError(f"reset: expected one seed or {self.num_envs}, got {len(seed)}")
        return [int(s) for s in seed]

    def _reset_mask(self, options: dict[str, Any] | None) -> Tensor:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        mask = torch.as_tensor(mask, device=self.device)
        if mask.shape != (self.num_envs,) or mask.dtype != torch.bool:
            raise EnvError(
                f"reset_mask: expected booleans of shape ({self.num_envs},), got {mask.dtype} of {tuple(mask.shape)}"
            )
        return mask

    def _checked(self, actions: Tensor | np.ndarray) -> Tensor:
        """Actions as a tensor of the right dtype on the right device."""
        action = torch.as_tensor(actions, device=self.device)
        if action.shape != self._action_shape:
            raise EnvError(
                f"actions: expected shape {self._action_shape} for {self.num_envs} copies, got {tuple(action.shape)}"
            )
        if self._validate and not self._same_step and bool(self._over.any()):
            over = int(self._over.nonzero()[0, 0])
            raise EnvError(f"step after the end: copy {over} is over; reset it with options={{'reset_mask': ended}}")
        return self._checked_choice(action) if self._n_choices else self._checked_numbers(action)

    def _checked_choice(self, action: Tensor) -> Tensor:
        if action.dtype not in _INTEGERS:
            raise EnvError(f"actions: expected integers from 0 to {self._n_choices - 1}, got {action.dtype}")
        if self._validate:
            low, high = action.aminmax()
            if low.item() < 0 or high.item() >= self._n_choices:
                raise EnvError(f"actions: expected 0 to {self._n_choices - 1}, got {int(low)} to {int(high)}")
        return action if action.dtype is torch.int64 else action.to(torch.int64)

    def _checked_numbers(self, action: Tensor) -> Tensor:
        if not action.is_floating_point():
            raise EnvError(f"actions: expected floating-point numbers, got {action.dtype}")
        if self._validate and not bool(action.isfinite().all()):
            raise EnvError("actions: expected finite numbers, got NaN or infinity")
        return action.to(torch.float32)


def _step(
    state: Tensor,
    age: Tensor,
    fresh: Tensor,
    action: Tensor,
    u: Tensor,
    *,
    dynamics: Dynamics,
    limit: int | None,
    same_step: bool,
) -> tuple[Tensor, ...]:
    """One step of all copies and, in SAME_STEP mode, their resets to ``fresh``, without asking the device anything.

    Returns:
        State, age, observation, final observation, reward, terminated, truncated, ended.
    """
    state, reward, terminated = dynamics.step(state, action, u)
    age = age + 1
    truncated = torch.zeros_like(terminated) if limit is None else age >= limit
    ended = terminated | truncated
    obs = final_obs = dynamics.observe(state)
    if same_step:
        state = torch.where(ended, fresh, state)
        age = age.masked_fill(ended, 0)
        obs = dynamics.observe(state)
    return state, age, obs, final_obs, reward, terminated, truncated, ended


def _compiled(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    """``function`` compiled for inputs like these.

    ``torch.compile`` would check on every call, for as long as the step itself takes, that the inputs are still like
    that; here they always are.
    """
    from torch._inductor import compile as inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    return inductor(make_fx(function)(*inputs), list(inputs))
