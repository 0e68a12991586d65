"""The objective around the policies of a comparison: one plane through three of them, at every group's coefficient."""

from __future__ import annotations

from functools import partial

import numpy as np

from entropic_rl.agents.config import AGENT_CONFIGS, action_head
from entropic_rl.compare.analysis import Group, Section
from entropic_rl.compare.grid import Plan
from entropic_rl.environments import choose_backend, make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.landscape import exact_objective, plane_through, policy_slice, sampled_objective
from entropic_rl.optimality import find_rules
from entropic_rl.page import Picture, drawn
from entropic_rl.plots.landscape import LandscapePanel, plot_landscapes
from entropic_rl.policy_files import load_policy
from entropic_rl.spaces import observation_spec

__all__ = ["check_landscape", "landscape_picture"]

_RADIUS = 1.5  # 1 is the farthest policy
_EXACT_POINTS, _SAMPLED_POINTS = 41, 17
_EPISODES, _MAX_STEPS = 8, 500


def check_landscape(plan: Plan) -> None:
    """Refuse before anything is trained what has no landscape.

    Raises:
        ConfigError: an agent is not one of ours, or an environment has no batched version.
    """
    for (agent, env), (run, _) in plan.bases.items():
        if agent not in AGENT_CONFIGS:
            raise ConfigError(f"--landscape: expected one of {', '.join(AGENT_CONFIGS)}, got {agent}; leave it out")
        if choose_backend(env, run.env_kwargs, wrappers=run.env_wrappers) != "batched":
            raise ConfigError(
                f"--landscape: expected environments that are batched, got {env}; it plays thousands of episodes, so "
                "leave it out, and wrappers too"
            )


def landscape_picture(section: Section, prefix: str = "") -> Picture:
    """The plane through the first run of the first, the middle and the last group.

    Every panel has the objective ``return + coefficient x entropy`` of its group, discounted, with the coefficient in
    units of the reward that its first run ended with.
    """
    groups = [group for group in section.groups if group.outcomes]
    cells = [group.outcomes[0].cell for group in groups]
    run, config = cells[0].run, cells[0].config
    env = make_vector_env(run.env, 1, run.env_kwargs, backend="batched", wrappers=run.env_wrappers)
    observation = observation_spec(env.single_observation_space).stacked(run.frame_stack)
    action, rules = action_head(config, env.single_action_space), find_rules(env)
    env.close()
    policies = [load_policy(cell.directory, observation, action) for cell in cells]
    alike = [i for i, policy in enumerate(policies) if policy.network == policies[0].network]
    chosen = sorted({alike[0], alike[len(alike) // 2], alike[-1]})
    plane = plane_through([policies[i] for i in chosen])
    if rules is not None and not policies[0].is_recurrent and observation.frames == 1:
        objective, n_points, told = partial(exact_objective, rules=rules, gamma=config.gamma), _EXACT_POINTS, "exact"
    else:
        make = partial(make_vector_env, run.env, kwargs=run.env_kwargs, backend="batched", wrappers=run.env_wrappers)
        objective = partial(sampled_objective, make_envs=make, gamma=config.gamma, episodes=_EPISODES,
                            max_steps=min(run.eval_max_steps, _MAX_STEPS))  # fmt: skip
        n_points, told = _SAMPLED_POINTS, f"the mean of the same {_EPISODES} episodes at every point"
    found = policy_slice(plane.centre, plane.directions, objective, radius=_RADIUS, n_points=n_points)
    panels = []
    for i in alike:
        marks = [(float(x), float(y), groups[k].name, k == i) for k, (x, y) in zip(chosen, plane.marks, strict=True)]
        values = np.asarray(found.objective(_temperature(groups[i])))
        panels.append(LandscapePanel(groups[i].name, found.offsets, values, marks))
    caption = (
        f"Discounted return + coefficient x entropy ({told}), at each group's own coefficient in units of the reward, "
        "on one plane of network weights: that through the marked policies, the first runs of their groups; the orange "
        "one is the panel's own. Colours go from the lowest to the highest of each panel, which stand below it."
    )
    svg = drawn(lambda file: plot_landscapes(file, panels))
    return Picture(prefix + "landscape", "The objective around the policies", caption, svg, wide=True)


def _temperature(group: Group) -> float:
    """The coefficient in reward units that the first run ended with; 0 where none was recorded."""
    row = group.outcomes[0].rows[-1]
    value = row.get("train/effective_temperature", row.get("train/ent_coef", 0.0))
    return value if np.isfinite(value) else 0.0
