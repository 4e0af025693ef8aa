"""What a sweep is of: the file SPEC.toml, or the same values in Python."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_type_hints

from pixelq.agents.config.agent_config import SCHEDULED, AgentConfig
from pixelq.agents.config.presets import PRESET_NUM_ENVS, PRESET_PROTOCOLS, preset
from pixelq.agents.config.schedule_texts import parse_schedule
from pixelq.agents.errors import InvalidConfig, InvalidSpec, one_line
from pixelq.agents.storage.files import read_regular, user_path
from pixelq.agents.storage.json_values import MOST_COUNT, MOST_JSON, check_types, is_count, requirement_message
from pixelq.envs import ATARI5, ATARI26, ATARI57, InvalidEnv, id_of, import_module
from pixelq.envs.ids import check_id
from pixelq.envs.named import parse_named

SUITES = {"atari5": ATARI5, "atari26": ATARI26, "atari57": ATARI57}
"""Names that stand for several games in `envs`."""
MOST_CELLS = 100_000
DEVICES = re.compile(r"auto|cpu(:0)?|cuda(:[0-9]+)?")
SERVICES = ("wandb", "mlflow", "trackio")
"""Names that `track` may have."""


@dataclass(frozen=True)
class Flags:
    """Flags of `pixelq train` that all cells of a sweep share; what is left out is train's default."""

    num_envs: int | None = None
    protocol: str | None = None
    device: str = "auto"
    deterministic: bool = False
    checkpoint_every: int | None = None
    keep: int | None = None
    evaluate_every: int | None = None
    evaluation_episodes: int | None = None
    evaluation_episode_steps: int | None = None
    final_episodes: int | None = None
    film: bool = False
    log_every: int | None = None
    full_action_space: bool = False
    flicker: float | None = None
    frame_size: int | None = None
    grayscale: bool = False
    max_episode_steps: int | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    callback: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
    track_project: str | None = None
    modules: tuple[str, ...] = ()


IMPORT = "import"
"""Name of `Flags.modules` in a specification, and on the command line."""
_REQUIRED = ("envs", "presets", "seeds", "steps")
_FLAGS = tuple(each.name for each in dataclasses.fields(Flags) if each.name != "modules")
_KEYS = (*_REQUIRED, "agent", "preset", "retries", *_FLAGS)


@dataclass(frozen=True)
class Spec:
    """The cells of a sweep: `envs` × `presets` × `seeds` × the values of each field in `settings`; see `spec_of`."""

    envs: tuple[str, ...]
    """IDs of environments, as `pixelq train --env` takes them."""
    presets: tuple[str, ...]
    """Names of presets."""
    seeds: tuple[int, ...]
    """Seeds."""
    steps: int
    """Agent steps of each run."""
    agent: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of fields of the configuration, all of which are crossed."""
    preset: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    """The same of single presets, in place of those in `agent`."""
    preset_steps: Mapping[str, int] = field(default_factory=dict)
    """Agent steps of single presets' runs, in place of `steps`."""
    retries: int = 2
    """Times that a cell that failed is tried again."""
    flags: Flags = field(default_factory=Flags)
    """Further flags of `pixelq train`."""

    def settings(self, name: str) -> Mapping[str, tuple[Any, ...]]:
        """Return the values of each field that a preset's cells have."""
        return {**self.agent, **self.preset.get(name, {})}

    def config(self, name: str, values: Mapping[str, Any]) -> AgentConfig:
        """Return the configuration of a preset with the values of a cell.

        Raises:
            InvalidSpec: If it cannot be run.
        """
        try:
            return dataclasses.replace(preset(name), **values)
        except InvalidConfig as error:
            given = "".join(f", {key} {value}" for key, value in values.items())
            raise InvalidSpec(f"the preset {name}{given} cannot be run: {error}") from error

    def steps_of(self, name: str) -> int:
        """Return the agent steps of a preset's runs."""
        return self.preset_steps.get(name, self.steps)

    def num_envs(self, name: str) -> int:
        """Return the number of environments that a preset's cells play at once."""
        return self.flags.num_envs or PRESET_NUM_ENVS[name]

    def protocol(self, name: str) -> str:
        """Return the protocol of a preset's cells in Atari games."""
        return self.flags.protocol or PRESET_PROTOCOLS[name]


def read_values(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of a specification's file, which `spec_of` checks.

    Raises:
        InvalidSpec: If the file cannot be read or is no TOML.
    """
    path = user_path(path)
    try:
        return tomllib.loads(read_regular(path, MOST_JSON).decode())
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read ({error.strerror}); give a file in TOML") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"{path} is no TOML ({one_line(error)})") from error


def names_modules(values: Mapping[str, Any]) -> bool:
    """Return whether a specification names modules of the user's, by which they may be imported."""
    return IMPORT in values or any(":" in str(values.get(key, "")) for key in ("envs", "wrappers", "callback"))


def spec_of(values: Mapping[str, Any]) -> Spec:
    """Return the specification with the values that SPEC.toml has, as `tomllib` reads them.

    Raises:
        InvalidSpec: If a value does not fit.
        InvalidEnv: If there is no such environment.
    """
    for key in values:
        if key not in (*_KEYS, IMPORT):
            raise InvalidSpec(_unknown(key))
    for key in _REQUIRED:
        if key not in values:
            raise InvalidSpec(f"{key} is missing; a specification needs {', '.join(_REQUIRED)}")
    flags = _flags_of(values)
    for module in flags.modules:
        import_module(module)  # it may register environments and parts
    presets = _list_of("presets", values["presets"], str)
    own, own_steps = _of_presets(values.get("preset", {}), presets)
    spec = Spec(
        envs=_envs(_list_of("envs", values["envs"], str)),
        presets=presets,
        seeds=_list_of("seeds", values["seeds"], int),
        steps=_count("steps", values["steps"], 1),
        agent=_agent("agent", values.get("agent", {})),
        preset=own,
        preset_steps=own_steps,
        retries=_count("retries", values.get("retries", Spec.retries), 0),
        flags=flags,
    )
    for name in spec.presets:
        preset(name)
    return spec


def _unknown(key: str) -> str:
    fields = [each.name for each in dataclasses.fields(AgentConfig)]
    if key in fields:
        return f"unknown field {key!r:.80} of the specification; fields of the agent stand under [agent]"
    near = difflib.get_close_matches(key, (*_KEYS, IMPORT), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join((*_KEYS, IMPORT))}"
    return f"unknown field {key!r:.80} of the specification; {hint}"


def _flags_of(values: Mapping[str, Any]) -> Flags:
    """Return the flags among the values of a specification."""
    given: dict[str, Any] = {}
    for name, kind in get_type_hints(Flags).items():
        key = IMPORT if name == "modules" else name
        if key in values:
            given[name] = _flag(key, values[key], kind)
    if "env_kwargs" in given:
        for key in given["env_kwargs"]:
            if not key.isidentifier():
                raise InvalidSpec(f"env_kwargs must have names of arguments, got {key!r:.80}")
        try:
            json.dumps(given["env_kwargs"], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidSpec(f"env_kwargs must have values that JSON has ({one_line(error)})") from error
    if DEVICES.fullmatch(given.get("device", "auto")) is None:
        raise InvalidSpec(f"device must be auto, cpu, cuda or cuda:N, got {given['device']!r:.80}")
    for service in given.get("track", ()):
        if service not in SERVICES:
            raise InvalidSpec(f"track must have names among {', '.join(SERVICES)}, got {service!r:.80}")
    if "wrappers" in given:
        given["wrappers"] = tuple(str(parse_named(name, "wrapper")) for name in given["wrappers"])
    return Flags(**given)


def _flag(name: str, value: Any, kind: Any) -> Any:
    """Return the value of a flag, checked."""
    if kind == tuple[str, ...]:
        return _list_of(name, value, str)
    if isinstance(kind, UnionType) and int in get_args(kind):
        return _count(name, value, 1)
    if isinstance(kind, UnionType) and float in get_args(kind):
        kind = float | int
    elif isinstance(kind, UnionType) and str in get_args(kind):
        kind = str
    try:
        check_types({name: value}, {name: kind if isinstance(kind, type | UnionType) else dict})
    except ValueError as error:
        raise InvalidSpec(str(error)) from error
    return value


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, float) and value.is_integer():  # 1e6
        value = int(value)
    if not is_count(value) or value < least:
        raise InvalidSpec(requirement_message(name, f"an integer of at least {least}", value))
    return value


def _list_of(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """Return the values of a list, each once."""
    noun = {str: "texts", int: "integers of at least 0"}[kind]
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    if not is_list or not all(isinstance(each, str) and each if kind is str else is_count(each) for each in value):
        raise InvalidSpec(requirement_message(name, f"a list of {noun}, at least one", value))
    return tuple(dict.fromkeys(value))


def _envs(names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of environments, those of a suite in place of its name.

    Raises:
        InvalidEnv: If there is no such environment.
    """
    found: list[str] = []
    for name in names:
        suite = SUITES.get(name)
        try:
            found += [check_id(name)] if suite is None else map(id_of, suite)
        except InvalidEnv as error:
            if "/" in name or ":" in name or not difflib.get_close_matches(name.lower(), SUITES, n=1):
                raise
            raise InvalidSpec(f"{error}, or one of the suites {', '.join(SUITES)}") from error
    return tuple(dict.fromkeys(found))


def _of_presets(values: Any, presets: Sequence[str]) -> tuple[dict[str, dict[str, tuple[Any, ...]]], dict[str, int]]:
    """Return what a specification has for single presets: values of fields of the configuration, and steps."""
    if not isinstance(values, Mapping):
        raise InvalidSpec(requirement_message("preset", "a table of presets, each with fields of the agent", values))
    fields, steps = {}, {}
    for name, each in values.items():
        if name not in presets:
            raise InvalidSpec(f"preset.{name} must be of a preset in presets, got one that is not there")
        if isinstance(each, Mapping) and "steps" in each:
            steps[name] = _count(f"preset.{name}.steps", each["steps"], 1)
            each = {key: value for key, value in each.items() if key != "steps"}
        fields[name] = _agent(f"preset.{name}", each)
    return fields, steps


def _agent(table: str, values: Any) -> dict[str, tuple[Any, ...]]:
    """Return the values of each field of the configuration that a table of a specification names."""
    if not isinstance(values, Mapping):
        raise InvalidSpec(requirement_message(table, "a table of fields of the agent", values))
    hints, found = _hints(), {}
    for name, value in values.items():
        each = list(value) if isinstance(value, list | tuple) else [value]
        if not each:
            raise InvalidSpec(f"{table}.{name} must have a value, got an empty list")
        found[name] = tuple(_setting(f"{table}.{name}", one, hints.get(name)) for one in each)
    return found


@functools.cache
def _hints() -> dict[str, Any]:
    """Return the types of the fields of the configuration."""
    return get_type_hints(AgentConfig)


def _setting(place: str, value: Any, hint: Any) -> Any:
    """Return the value of a field of the configuration as Python has it; the configuration checks it later."""
    name = place.rpartition(".")[2]
    kinds = get_args(hint) or (hint,)
    if value == "None" and type(None) in kinds:  # TOML has none
        return None
    if name in SCHEDULED and isinstance(value, str):
        try:
            return parse_schedule(value)
        except InvalidConfig as error:
            raise InvalidSpec(f"{place} {error}") from error
    if int in kinds and isinstance(value, float) and value.is_integer() and value <= MOST_COUNT:
        return int(value)
    return value
