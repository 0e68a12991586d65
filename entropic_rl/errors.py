"""What can go wrong through no fault of the code, in words for the person who can mend it.

UserError                 one line: what was expected, what came, what to do; the command line exits with 2
├── ConfigError           (also a ValueError) a setting is unknown, out of range, or contradicts another
├── EnvError              an environment is unknown, misses an extra, or has a space no agent here can take
├── NumbersError          observations, rewards or gradients of a training are not finite
└── RunDirectoryError     a run directory cannot be written, is not empty, or does not hold what is asked of it
    └── NotResumableError what it holds cannot be gone on with, but begun anew
"""

from __future__ import annotations


class UserError(Exception):
    """Base of every error that a user can cause and mend; its text is one line."""


class ConfigError(UserError, ValueError):
    """A setting is unknown, out of range, or contradicts another."""


class EnvError(UserError):
    """An environment is unknown, misses an extra, or has an unsupported space."""


class NumbersError(UserError):
    """Observations, rewards or gradients of a training are not finite."""


class RunDirectoryError(UserError):
    """A run directory cannot be written, is not empty, or does not hold what is asked of it."""


class NotResumableError(RunDirectoryError):
    """A training does not come back to where it was."""


def first_line(error: BaseException) -> str:
    """What an error of others says first, for one of ours."""
    return str(error).strip().split("\n", 1)[0].rstrip(".")
