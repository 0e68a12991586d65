"""Environments of the toolkit. Any Gymnasium id works without them."""

if __name__ != "entropic_rl.envs":
    raise ImportError(f"import entropic_rl.envs, not {__name__}: the bare name belongs to other packages")
