"""Settings: what they are, how they are checked, and how the layers (defaults < preset < file < flags) combine.

Every settings class is a frozen dataclass whose fields carry their range and their help text, and is checked wherever
it is built: in Python, from a YAML file, from flags. Imports neither torch nor wandb, so that a mistake is reported at
once.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_type_hints

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import Doc

from entropic_rl.errors import ConfigError
from entropic_rl.schedules import Schedule, parse_coefficient
from entropic_rl.wrappers import parse_wrapper

__all__ = ["FUSED_FROM", "RunConfig", "annotations_of", "build", "field_docs", "load_yaml", "read_yaml", "settings"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """Decorator of every settings class: frozen, checked on construction, unknown names refused."""
    config = ConfigDict(extra="forbid", validate_default=True)
    return dataclass(frozen=True, slots=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]


def _scheduled(minimum: float, *, exclusive: bool = False) -> Any:
    """A validator: a number or schedule text whose values stay above ``minimum``."""

    def check(spec: float | str) -> float | str:
        schedule = Schedule.parse(spec)
        lowest = min(schedule.start, schedule.end)
        if lowest < minimum or (exclusive and schedule.start <= minimum):
            sign = ">" if exclusive else ">="
            raise ValueError(f"expected {sign} {minimum:g}, got {spec}")
        return schedule.start if schedule.kind == "constant" else str(spec)

    return AfterValidator(check)


Scheduled = Annotated[float | str, _scheduled(0.0)]
"""A number >= 0 or a schedule of such numbers, ``linear:0.01:0``."""

PositiveScheduled = Annotated[float | str, _scheduled(0.0, exclusive=True)]
"""A number > 0, or a schedule that starts > 0."""


def _coefficient(spec: float | str) -> float | str:
    """An entropy weight in its shortest form."""
    parsed = parse_coefficient(spec)
    if isinstance(parsed, Schedule):
        lowest = min(parsed.start, parsed.end)
        if lowest < 0.0:
            raise ValueError(f"expected >= 0, got {spec}")
        return parsed.start if parsed.kind == "constant" else str(spec)
    return str(parsed)


Coefficient = Annotated[float | str, AfterValidator(_coefficient)]
"""An entropy weight: a number >= 0, a schedule of such, ``target:NATS[:INITIAL]`` or ``auto[:INITIAL]``."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _whole(value: Any) -> Any:
    """``1e5`` is a whole number, too, as text or as a float."""
    try:
        return (
            int(float(value))
            if isinstance(value, str) and float(value).is_integer() and "e" in value.lower()
            else value
        )
    except (ValueError, OverflowError):
        return value


def _wrapper(text: str) -> str:
    """The text of a wrapper, if it has the form of one."""
    parse_wrapper(text)
    return text.strip()


Wrapper = Annotated[str, AfterValidator(_wrapper)]
"""A Gymnasium wrapper, ``MODULE:CLASS`` or ``MODULE:CLASS(name=value, ...)``."""

Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Natural = Annotated[int, BeforeValidator(_whole), Field(ge=0)]


# Env steps of a run from which machine code is chosen: loading it takes a second, making it, once, a minute.
FUSED_FROM = 50_000


@settings
class RunConfig:
    """What to train on, for how long, and what to keep of it; the same for every agent."""

    env: Annotated[str, Field(min_length=1), Doc("Gymnasium id of the environment, such as CartPole-v1")]
    total_timesteps: Annotated[Count, Doc("env steps of the run, summed over its environments")] = 100_000
    n_envs: Annotated[Count, Doc("environments stepped side by side")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63), Doc("seed of every random stream of the run")] = 0
    env_kwargs: Annotated[dict[str, Any], Doc("arguments of the environment, as NAME=VALUE ...")] = dataclasses.field(
        default_factory=dict
    )
    frame_stack: Annotated[Count, Doc("latest observations that the agent sees at once")] = 1
    gym_packages: Annotated[tuple[str, ...], Doc("packages to import first, because they register environments")] = ()
    env_wrappers: Annotated[
        tuple[Wrapper, ...],
        Doc(
            "Gymnasium wrappers to put around each environment, innermost first, as MODULE:CLASS or, in quotes, "
            "MODULE:CLASS(name=value, ...); they need the backend sync or async"
        ),
    ] = ()
    env_backend: Annotated[
        Literal["auto", "batched", "sync", "async"],
        Doc(
            "how environments are stepped: all by one program (batched, for the ids that have it), one by one (sync), "
            "or in a process each (async); auto: batched where it is the same environment without wrappers, else sync"
        ),
    ] = "auto"
    env_timeout: Annotated[
        Positive, Doc("seconds that an environment in a process of its own (async) may take to answer")
    ] = 60.0
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$"), Doc("auto, cpu, cuda or cuda:N; auto prefers CUDA")
    ] = "auto"
    num_threads: Annotated[
        Count, Doc("CPU threads of torch; more than one pays only for wide networks on idle cores")
    ] = 1
    kernel: Annotated[
        Literal["auto", "fused", "autograd"],
        Doc(
            "what acts and learns: torch (autograd), or machine code made for perceptrons on the CPU (fused; ppo, a2c "
            "and sac), several times faster after a compilation of about a minute, which is kept; auto: fused where "
            "there is any and a run has at least 50,000 env steps"
        ),
    ] = "auto"
    cuda_graphs: Annotated[
        bool,
        Doc(
            "record rollout and update as one CUDA graph and repeat it (ppo and a2c in batched environments on CUDA); "
            "tested without a GPU alone so far"
        ),
    ] = False
    bf16: Annotated[
        bool,
        Doc(
            "compute products between hidden layers in bfloat16 (ppo and a2c, by torch), which may save time where "
            "layers are wide, on a GPU"
        ),
    ] = False
    eval_episodes: Annotated[Count, Doc("episodes of each evaluation, deterministic and stochastic")] = 100
    eval_max_steps: Annotated[Count, Doc("evaluation episodes are cut off there, for envs without a time limit")] = (
        10_000
    )
    eval_freq: Annotated[Natural, Doc("env steps between evaluations during training; 0 = only at the end")] = 0
    eval_seed: Annotated[int, Field(ge=0, lt=2**63), Doc("seed of the evaluation episodes, the same for every run")] = (
        10_000
    )
    success_return: Annotated[
        float | None, Field(allow_inf_nan=False), Doc("return from which an episode is a success [the env's threshold]")
    ] = None
    coverage: Annotated[
        str,
        Field(pattern=r"^(auto|off|\w+(\.\w+)*:\w+)$"),
        Doc(
            "which states count as one for coverage: auto (exact for finite spaces, a fixed grid for Box), off, or "
            "MODULE:NAME of your own exploration.Cells; off counts neither states nor actions"
        ),
    ] = "auto"
    diagnose: Annotated[
        bool,
        Doc(
            "watch the gradients of task and entropy in every layer; leaves heat maps and a verdict per layer in the "
            "run directory and changes no bit of the training"
        ),
    ] = False
    diagnose_every: Annotated[
        Count, Doc("gradient steps between two looks at first; long trainings are looked at about 200 times in all")
    ] = 40
    log_interval: Annotated[Natural, Doc("updates between rows of metrics.jsonl; 0 = about 250 rows at most")] = 0
    checkpoint_every: Annotated[Natural, Doc("updates between saved states; 0 = by the clock alone")] = 0
    checkpoint_seconds: Annotated[
        NonNegative, Doc("seconds between saved states, from which --resume goes on; 0 = none by the clock")
    ] = 300.0
    track: Annotated[bool, Doc("mirror the run to Weights & Biases")] = False
    wandb_mode: Annotated[
        Literal["online", "offline", "disabled"] | None, Doc("default: online with an API key, else offline")
    ] = None
    wandb_project: Annotated[str, Field(min_length=1), Doc("project to log to")] = "entropic_rl"
    wandb_entity: Annotated[str | None, Doc("user or team to log under")] = None
    wandb_group: Annotated[str | None, Doc("group of the run; a comparison sets its own")] = None
    wandb_tags: Annotated[tuple[str, ...], Doc("tags of the run")] = ()
    tensorboard: Annotated[bool, Doc("mirror the run to TensorBoard files in RUN_DIR/tensorboard")] = False


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """A settings object from raw values; text is converted (YAML reads ``1e-3`` as text).

    Raises:
        ConfigError: listing every unknown name (with a suggestion) and every value out of range, in one line.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(cls, item) for item in error.errors())) from None


def load_yaml(path: str | Path, known: Iterable[str]) -> dict[str, Any]:
    """Settings from a flat YAML file whose keys are the flags' names (``ent_coef`` or ``ent-coef``).

    Raises:
        ConfigError: the file cannot be read, is no mapping, or has a key that is no setting.
    """
    try:
        content = read_yaml(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config: {path} must hold settings as NAME: VALUE, got a {type(content).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in content.items()}
    known = list(known)
    for key in values:
        if key not in known:
            raise ConfigError(f"--config: {path} has unknown key {key!r}{suggestion(key, known)}")
    return values


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*NAME) are not read")
        return super().compose_node(parent, index)


def read_yaml(text: str) -> Any:
    """What a text says in YAML: plain values, lists and mappings, nothing that would be made by calling something.

    Raises:
        yaml.YAMLError: it is none, or says it by aliases.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise yaml.YAMLError(str(error)) from None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` if something known is close to ``name``, else an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def annotations_of(cls: type[Any]) -> Mapping[str, Any]:
    """Types of all fields with what is noted beside them. In the source they are text: it is evaluated only once."""
    return _annotations_of(cast(Hashable, cls))


@cache
def _annotations_of(cls: Hashable) -> Mapping[str, Any]:
    return MappingProxyType(get_type_hints(cls, include_extras=True))


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Help text of every field, by name."""
    hints = annotations_of(cls)
    docs = {}
    for field in dataclasses.fields(cls):
        notes = getattr(hints[field.name], "__metadata__", ())
        docs[field.name] = next((note.documentation for note in notes if isinstance(note, Doc)), "")
    return docs


def jsonable(config: Any) -> dict[str, Any]:
    """A settings object as plain JSON values."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}


def _describe(cls: type[Any], item: Any) -> str:
    """One violation in words: the field, what was expected, what came."""
    location = [str(part) for part in item["loc"]]
    name = location[0] if location else cls.__name__
    given = item["input"]
    if item["type"] == "unexpected_keyword_argument":
        return f"unknown setting {name!r}{suggestion(name, (f.name for f in dataclasses.fields(cls)))}"
    if item["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{name} is missing: give --{name.replace('_', '-')} ({field_docs(cls)[name]})"
    message = item["msg"].removeprefix("Value error, ")
    if not location:  # a rule about several fields, stated in full by the class
        return message
    if item["type"] == "string_pattern_mismatch":
        message = f"expected {field_docs(cls)[name].split(';')[0]}"
    if item["type"] == "value_error":  # our own words, which name what came
        return f"{name}: {message}"
    message = message.replace("Input should be ", "expected ")
    message = message.split(", unable to parse")[0].split(", got a number")[0]
    shown = "NaN" if isinstance(given, float) and math.isnan(given) else repr(given)
    return f"{name}: {message}, got {shown}"
