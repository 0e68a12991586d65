"""The grid of a comparison: swept settings x seeds, one run directory each; free of torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entropic_rl.cell import Cell, settings_class
from entropic_rl.config import RunConfig, build, field_docs, jsonable
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.flags import scalar_fields
from entropic_rl.resolve import check_together, layered
from entropic_rl.run_directory import check_links, file_name, read_json, write_json
from entropic_rl.schedules import Schedule

__all__ = ["FILE", "Plan", "label", "make_plan", "read_plan", "sweepable"]

FILE = "plan.json"
# Of the run's settings, what may be swept beside all numbers of the agent's.
_RUN_FIELDS = ("env", "n_envs", "frame_stack")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared with what.

    Attributes:
        sweep: field -> the values it takes; every combination is a group, or, if ``together``, the first values of
            all fields are one group, the second ones the next.
        seeds: the same for every group, so that differences between groups are paired.
        bases: ``(run, config)`` by ``(agent, env)``, what the swept values are put into.
        together: swept fields change together.
        threshold: return that counts as learned; None for the environment's own.
        baseline: name of the group that others are compared with; None for coefficient 0, or the first.
    """

    sweep: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]
    bases: Mapping[tuple[str, str], tuple[RunConfig, Any]]
    together: bool = False
    threshold: float | None = None
    baseline: str | None = None

    def points(self) -> Iterator[dict[str, Any]]:
        """The swept values of each group."""
        combinations = (
            zip(*self.sweep.values(), strict=True) if self.together else itertools.product(*self.sweep.values())
        )
        return (dict(zip(self.sweep, values, strict=True)) for values in combinations)

    def cells(self, out: Path) -> list[Cell]:
        """Every group with every seed, each with a directory under ``out/cells``."""
        return [
            replace(cell, run=replace(cell.run, seed=seed), directory=out / "cells" / f"{cell.directory}__seed_{seed}")
            for cell in map(self._first, self.points())
            for seed in self.seeds
        ]

    def _first(self, point: dict[str, Any]) -> Cell:
        """A group's cell, its directory's name without the seed."""
        only = next(iter(self.bases))
        agent, env = point.get("agent", only[0]), point.get("env", only[1])
        run, config = self.bases[agent, env]
        name = "__".join(f"{field}_{label(value)}" for field, value in point.items())
        cell = Cell(agent, _with(run, point), _with(config, point), Path(file_name(name)))
        check_together(cell.agent, cell.run, cell.config)
        return cell

    def group(self, cell: Cell) -> str:
        """What a cell's group is called in tables: the value of the swept field, or ``field value, ...`` of several."""
        shown = self.varying
        if len(shown) == 1:
            return label(cell.value(shown[0]))
        named = {field: label(cell.value(field)) for field in shown}
        return ", ".join(text if field in ("agent", "env") else f"{field} {text}" for field, text in named.items())

    @property
    def varying(self) -> tuple[str, ...]:
        """Swept fields with more than one value; the first of all if there is none."""
        return tuple(field for field, values in self.sweep.items() if len(values) > 1) or tuple(self.sweep)[:1]

    def extended(self, sweep: Mapping[str, Sequence[Any]], n_more_seeds: int, preset_choice: str = "auto") -> Plan:
        """The same with further values of what is swept and further seeds.

        Raises:
            ConfigError: a field that is not swept, or a value that is there already.
        """
        for field in sweep:
            if field not in self.sweep:
                swept = ", ".join(map(_flag, self.sweep))
                raise ConfigError(
                    f"{_flag(field)}: expected one of what this comparison sweeps ({swept}); start another"
                )
        merged = {field: (*values, *sweep.get(field, ())) for field, values in self.sweep.items()}
        agents = merged.get("agent", tuple(agent for agent, _ in self.bases)[:1])
        _check_sweepable(agents, merged)
        bases = dict(self.bases)
        for agent, env in itertools.product(merged.get("agent", [None]), merged.get("env", [None])):
            _add_base(bases, agent, env, preset_choice)
        canonical = _canonical(merged, bases)
        if not self.together:
            canonical = {field: _in_place(values, self.sweep[field]) for field, values in canonical.items()}
        last = max(self.seeds)
        build(RunConfig, {"env": "-", "seed": last + n_more_seeds})
        seeds = (*self.seeds, *range(last + 1, last + 1 + n_more_seeds))
        grown = replace(self, sweep=canonical, seeds=seeds, bases=bases, baseline=None).checked()
        if self.baseline is None:
            return grown
        member = next(cell for cell in self.cells(Path()) if self.group(cell) == self.baseline)
        return replace(grown, baseline=grown.group(member))

    def checked(self) -> Plan:
        """The same, if every cell's settings fit together and the baseline is one of the groups.

        Raises:
            ConfigError: they do not, or it is not.
        """
        if self.together and len({len(values) for values in self.sweep.values()}) > 1:
            counts = ", ".join(f"{_flag(field)} {len(values)}" for field, values in self.sweep.items())
            raise ConfigError(f"--together: expected as many values of each swept field, got {counts}")
        cells = self.cells(Path())
        groups = dict.fromkeys(map(self.group, cells))
        if len({cell.directory for cell in cells}) < len(cells):
            raise ConfigError(
                "two runs would share a directory: expected values whose names differ in more than / and :"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError(f"--threshold: expected a number, got {self.threshold}")
        if self.baseline is not None and self.baseline not in groups:
            raise ConfigError(f"--baseline: expected one of {', '.join(groups)}, got {self.baseline!r}")
        return self

    def write(self, out: Path) -> None:
        """Write ``plan.json``, from which a comparison goes on."""
        bases = [
            {"agent": agent, "run": jsonable(run), "config": jsonable(config)}
            for (agent, _), (run, config) in self.bases.items()
        ]
        stored = {name: getattr(self, name) for name in ("sweep", "seeds", "together", "threshold", "baseline")}
        write_json(out / FILE, {**stored, "bases": bases})


def read_plan(out: Path) -> Plan:
    """The plan of the comparison in ``out``.

    Raises:
        RunDirectoryError: there is none.
    """
    stored = read_json(out / FILE, expected="the --out of a comparison")
    check_links(out)
    bases = {}
    try:
        for base in stored["bases"]:
            run = build(RunConfig, base["run"])
            bases[base["agent"], run.env] = (run, build(settings_class(base["agent"]), base["config"]))
        sweep = {field: tuple(values) for field, values in stored["sweep"].items()}
        _check_sweepable([agent for agent, _ in bases], sweep)
        rest = {name: stored[name] for name in ("together", "threshold", "baseline")}
        return Plan(sweep=sweep, seeds=tuple(stored["seeds"]), bases=bases, **rest)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{out / FILE} is damaged: it lacks {error}") from None


def make_plan(
    agents: Sequence[str],
    chosen: Mapping[str, Any],
    *,
    n_seeds: int,
    preset_choice: str = "auto",
    together: bool = False,
    threshold: float | None = None,
    baseline: str | None = None,
) -> Plan:
    """A plan from what was asked for.

    Args:
        agents: one or several.
        chosen: settings by name; a list means that they are swept.
        n_seeds: seeds ``chosen["seed"], + 1, ...`` (from 0).
        preset_choice: as ``--preset`` has it.
        together: see :class:`Plan`.
        threshold: see :class:`Plan`.
        baseline: see :class:`Plan`.

    Raises:
        ConfigError: nothing is swept, a field that cannot be, a value that is out of range or given twice.
    """
    if n_seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {n_seeds}")
    single, sweep = _split(agents, chosen)
    bases: dict[tuple[str, str], tuple[RunConfig, Any]] = {}
    first = {field: values[0] for field, values in sweep.items() if field not in ("agent", "env")}
    for agent, env in itertools.product(agents, sweep.get("env", [single.get("env")])):
        own = {**first, **single} | ({} if env is None else {"env": env})
        bases[agent, str(env)] = layered(agent, own, preset_choice)
    seed = next(iter(bases.values()))[0].seed
    build(RunConfig, {"env": "-", "seed": seed + n_seeds - 1})  # the last seed has to be one, too
    plan = Plan(
        sweep=_canonical(sweep, bases),
        seeds=tuple(range(seed, seed + n_seeds)),
        bases=bases,
        together=together,
        threshold=threshold,
        baseline=baseline,
    )
    return plan.checked()


def sweepable(agents: Sequence[str]) -> set[str]:
    """Settings that all of the agents have and that may take several values."""
    own = [scalar_fields(settings_class(agent)) for agent in agents]
    return set.intersection(*own) | {*_RUN_FIELDS}


def label(value: Any) -> str:
    """A swept value as people write it: ``0``, ``0.01``, ``linear:0.01:0``, ``CartPole-v1``."""
    return str(Schedule.parse(value)) if isinstance(value, int | float) or _is_schedule(value) else str(value)


def _is_schedule(value: Any) -> bool:
    try:
        Schedule.parse(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _split(agents: Sequence[str], chosen: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """What has one value, and what is swept; the coefficient counts as swept with one value, too."""
    scalars = {*scalar_fields(RunConfig), *itertools.chain(*(scalar_fields(settings_class(a)) for a in agents))}
    single: dict[str, Any] = {}
    sweep: dict[str, tuple[Any, ...]] = {"agent": tuple(agents)} if len(agents) > 1 else {}
    lists = {field: v for field, v in chosen.items() if isinstance(v, list | tuple) and field in scalars}
    for field in sorted(chosen, key=lambda name: (name != "env", name != "ent_coef")):
        values = lists.get(field)
        if values is None or (len(values) == 1 and field != "ent_coef"):
            single[field] = chosen[field] if values is None else values[0]
        elif not values:
            raise ConfigError(f"{_flag(field)}: expected at least one value, got none")
        else:
            sweep[field] = tuple(values)
    _check_sweepable(agents, sweep)
    if not sweep and "ent_coef" in single:
        sweep["ent_coef"] = (single.pop("ent_coef"),)
    if not sweep:
        raise ConfigError("--ent-coef is missing: give the coefficients to compare, such as --ent-coef 0 0.01 0.1")
    return single, sweep


def _check_sweepable(agents: Sequence[str], sweep: Mapping[str, Sequence[Any]]) -> None:
    known = sweepable(agents) | {"agent"}
    for field, values in sweep.items():
        if field not in known:
            own = field not in field_docs(RunConfig)
            reason = "not every agent has it" if own else "it belongs to the whole comparison"
            raise ConfigError(f"{_flag(field)}: expected one value, got {len(values)}; it cannot be swept: {reason}")


def _canonical(
    sweep: Mapping[str, Sequence[Any]], bases: Mapping[tuple[str, str], tuple[RunConfig, Any]]
) -> dict[str, tuple[Any, ...]]:
    """The swept values as the settings have them (``1e-2`` is 0.01), each only once."""
    run, config = next(iter(bases.values()))
    checked: dict[str, tuple[Any, ...]] = {}
    for field, values in sweep.items():
        owner: Any = run if field in field_docs(RunConfig) else config
        read = values if field == "agent" else [getattr(_with(owner, {field: value}), field) for value in values]
        for value in read:
            if list(map(label, read)).count(label(value)) > 1:
                raise ConfigError(f"{_flag(field)}: expected different values, got {label(value)} more than once")
        checked[field] = tuple(read)
    return checked


def _in_place(values: tuple[Any, ...], before: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers added to numbers in ascending order take their place among them."""
    numbers = all(isinstance(value, int | float) for value in values)
    return tuple(sorted(values)) if numbers and list(before) == sorted(before) else values


def _add_base(bases: dict[tuple[str, str], tuple[RunConfig, Any]], agent: Any, env: Any, preset_choice: str) -> None:
    """Settings for an agent or environment that a comparison did not have yet, as near to its others as can be."""
    only = next(iter(bases))
    key = (agent or only[0], env or only[1])
    if key in bases:
        return
    run, config = bases[only]
    shared = {**jsonable(run), **jsonable(config), "env": key[1]}
    known = {**field_docs(RunConfig), **field_docs(settings_class(key[0]))}
    bases[key] = layered(key[0], {name: value for name, value in shared.items() if name in known}, preset_choice)


def _with(settings: Any, point: Mapping[str, Any]) -> Any:
    """The same settings with those of the point that they have."""
    names = field_docs(type(settings))
    own = {field: value for field, value in point.items() if field in names}
    return build(type(settings), jsonable(settings) | own) if own else settings


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
