"""Which ``pip install`` brings a package that is missing; free of torch."""

from __future__ import annotations

__all__ = ["missing_package"]

# What an error's text or the missing module's name holds -> the package, and what brings it.
_PACKAGES = {
    "box2d": ("Box2D", "entropic-rl[box2d]"),
    "mujoco": ("MuJoCo", "entropic-rl[mujoco]"),
    "minigrid": ("MiniGrid", "entropic-rl[minigrid]"),
    "ale_py": ("ale-py", "entropic-rl[atari]"),
    "cv2": ("OpenCV", "entropic-rl[atari]"),
    "opencv": ("OpenCV", "entropic-rl[atari]"),
    "pyarrow": ("pyarrow", "entropic-rl[parquet]"),
    "skactiveml": ("scikit-activeml", "entropic-rl[active]"),
    "numba": ("Numba", "entropic-rl[fast]"),
    "atari": ("ale-py", "entropic-rl[atari]"),
}
_MODULES = {  # known by the missing module's name alone: an error's text may hold these letters in other words
    "ray": ("Ray", "entropic-rl[cluster]"),
    "submitit": ("submitit", "entropic-rl[cluster]"),
}


def missing_package(error: Exception) -> str | None:
    """``NAME, which is not installed; run: pip install "..."``; None if the error is about no package known here."""
    if isinstance(error, ImportError) and error.name:  # a part of a package, or one that is broken, is not looked for
        found = (_PACKAGES | _MODULES).get(error.name.lower()) if isinstance(error, ModuleNotFoundError) else None
    else:
        text = str(error).lower()
        found = next((package for key, package in _PACKAGES.items() if key in text), None)
    return None if found is None else f'{found[0]}, which is not installed; run: pip install "{found[1]}"'
