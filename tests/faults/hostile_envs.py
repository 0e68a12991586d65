"""Environments that do what none should, each from a step on or in one call: ``Hostile-v0`` with a ``deed``."""

import os
import sys
import time

import gymnasium as gym
import numpy as np

FIRST = 11
"""Step of the second episode at which the deed is done; episodes have 16 steps."""


class Hostile(gym.Env):
    """A walk that knows its place; in its second episode it does its deed."""

    def __init__(self, deed="nothing"):
        self.observation_space = gym.spaces.Box(-9.0, 9.0, (3,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.deed, self.n_episodes, self.n_steps = deed, 0, 0
        if deed == "refuse to be made":
            raise RuntimeError("no\nmore")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_episodes += 1
        self.n_steps = 0
        if self.is_time("reset"):
            return self.misbehave(self.obs(), 0.0)
        return self.obs(), {}

    def step(self, action):
        self.n_steps += 1
        obs, reward = self.obs(), float(action)
        if self.n_steps == FIRST and self.is_time("step"):
            return self.misbehave(obs, reward)
        return obs, reward, False, self.n_steps == 16 and self.deed != "never end", {}

    def obs(self):
        if self.deed == "random of its own":
            return np.random.default_rng().random(3, dtype=np.float32)  # that no seed reaches
        return self.np_random.random(3, dtype=np.float32)

    def is_time(self, where):
        return self.n_episodes == 2 and self.deed.endswith(where)

    def misbehave(self, obs, reward):
        answer = [obs, reward, False, False, {}]
        deeds = {
            "NaN observation in step": lambda: [obs * np.nan, *answer[1:]],
            "inf observation in step": lambda: [obs + np.inf, *answer[1:]],
            "NaN reward in step": lambda: [obs, float("nan"), *answer[2:]],
            "inf reward in step": lambda: [obs, float("inf"), *answer[2:]],
            "no number as reward in step": lambda: [obs, None, *answer[2:]],
            "two rewards in step": lambda: [obs, np.zeros(2), *answer[2:]],
            "wrong shape in step": lambda: [np.zeros(5, np.float32), *answer[1:]],
            "wrong dtype in step": lambda: [np.array(["a", "b", "c"]), *answer[1:]],
            "no array in step": lambda: [None, *answer[1:]],
            "other spaces in step": self.change_spaces,
            "four values in step": lambda: answer[:4],
            "None from step": lambda: None,
            "no flag in step": lambda: [obs, reward, "no", False, {}],
            "no dict as info in step": lambda: [*answer[:4], 7],
            "raise in step": lambda: 1 / 0,
            "sys.exit in step": lambda: sys.exit(3),
            "os._exit in step": lambda: os._exit(7),
            "kill itself in step": lambda: os.kill(os.getpid(), 9),
            "sleep in step": lambda: time.sleep(120),
            "raise in reset": lambda: answer[9],
            "wrong shape in reset": lambda: (np.zeros(5, np.float32), {}),
            "observation alone from reset": lambda: obs,
        }
        done = deeds[self.deed]()
        return tuple(done) if isinstance(done, list) else done

    def change_spaces(self):
        self.observation_space = gym.spaces.Box(-9.0, 9.0, (4,), np.float32)
        return [np.zeros(4, np.float32), 0.0, False, False, {}]


gym.register("Hostile-v0", Hostile)
