"""The cells of a sweep: what each trains, the name of its run folder, and its command line."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import preset
from pixelq.agents.config.schedules import shown_setting, to_json
from pixelq.agents.distributed.spec import IMPORT, MOST_CELLS, Flags, Spec
from pixelq.agents.errors import InvalidSpec
from pixelq.envs import is_atari
from pixelq.envs.ids import short_name

MOST_NAME = 120
"""Most characters of a cell's name; file systems allow 255 bytes."""
MOST_VALUE = 24
"""Most characters of a value in it."""
FREE = frozenset("device deterministic film modules track track_project keep".split())
"""Flags that may be changed while a sweep is under way, since they change no figure of a run."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str
    """Name of its run folder."""
    env: str
    """ID of its environment."""
    preset: str
    """Preset from which its settings start."""
    seed: int
    """Its seed."""
    steps: int
    """Agent steps of the run."""
    agent: Mapping[str, Any]
    """Settings of the agent that differ from the preset's."""
    config: AgentConfig
    """All settings of the agent."""
    flags: Flags
    """Further flags of `pixelq train`."""

    def words(self, out: Path, *, resume: bool, steps: int | None = None) -> list[str]:
        """Return the command line after `pixelq` that begins the run in a folder, or goes on with it.

        Args:
            out: The folder.
            resume: Whether to go on.
            steps: Agent steps of the run; None for those of the cell.
        """
        words = ["train", "--env", self.env, "--preset", self.preset, "--seed", str(self.seed)]
        words += ["--steps", str(self.steps if steps is None else steps), *flag_words(self.flags)]
        if resume:
            words += ["--resume"]
        else:
            for name, value in self.agent.items():
                flag = name.replace("_", "-")
                if isinstance(value, bool):
                    words.append(f"--agent.{flag}" if value else f"--agent.no-{flag}")
                elif isinstance(value, tuple):
                    words += [f"--agent.{flag}", *map(str, value)]
                else:
                    words += [f"--agent.{flag}", shown_setting(value)]
        return [*words, "--progress", "line", "--out", str(out)]

    def record(self) -> dict[str, Any]:
        """Return what identifies the run, as JSON values: what may not be changed once it has begun, and its steps."""
        return {
            "env": self.env,
            "preset": self.preset,
            "seed": self.seed,
            "steps": self.steps,
            "agent": {name: to_json(value) for name, value in self.agent.items()},
            "flags": {
                name: value
                for name, value in json.loads(json.dumps(dataclasses.asdict(self.flags))).items()
                if name not in FREE and value not in (None, False, [], {})
            },
        }


def flag_words(flags: Flags) -> list[str]:
    """Return flags as words of a command line."""
    words: list[str] = []
    for each in dataclasses.fields(flags):
        value = getattr(flags, each.name)
        flag = f"--{IMPORT if each.name == 'modules' else each.name.replace('_', '-')}"
        if value in (None, False, (), {}):
            continue
        if value is True:
            words.append(flag)
        elif each.name == "env_kwargs":
            words += [word for key, one in value.items() for word in (f"{flag}.{key}", json.dumps(one))]
        elif each.name in ("track", "callback"):
            words += [word for one in value for word in (flag, one)]
        elif isinstance(value, tuple):
            words += [flag, ",".join(value)]
        else:
            words += [flag, str(value)]
    return words


def cells_of(spec: Spec) -> list[Cell]:
    """Return the cells of a sweep, with all seeds of an agent on an environment one after another.

    The name of a cell says what it is: its environment, its preset, the settings that differ from the preset's, and its
    seed. So it stays the same when others are added or removed.

    Raises:
        InvalidSpec: If there are too many, two would have the same name, or the settings of one cannot be run.
    """
    crossed = sum(math.prod(map(len, spec.settings(name).values())) for name in spec.presets)
    number = len(spec.envs) * len(spec.seeds) * crossed
    if number > MOST_CELLS:
        raise InvalidSpec(f"a sweep must have at most {MOST_CELLS:,} runs, got {number:,}; lower envs, seeds or agent")
    agents: dict[tuple[str, str], tuple[dict[str, Any], AgentConfig]] = {}
    for name in spec.presets:
        usual, fields = preset(name), spec.settings(name)
        for values in itertools.product(*fields.values()):
            config = spec.config(name, dict(zip(fields, values, strict=True)))
            own = {field: getattr(config, field) for field in sorted(fields) if _differs(config, usual, field)}
            differences = "".join(f"-{field}={_slug(value)}" for field, value in own.items())
            agents.setdefault((name, differences), (own, config))
    cells = [
        Cell(
            _name(env, name + settings, seed),
            env,
            name,
            seed,
            spec.steps_of(name),
            own,
            config,
            _resolved(spec, name, env),
        )
        for env in spec.envs
        for (name, settings), (own, config) in agents.items()
        for seed in spec.seeds
    ]
    _check_names(cells)
    return cells


def _check_names(cells: Sequence[Cell]) -> None:
    """Check that no two cells would be trained in the same folder.

    Raises:
        InvalidSpec: If two have the same name.
    """
    envs: dict[str, str] = {}
    for cell in cells:
        if envs.setdefault(cell.name, cell.env) != cell.env:
            raise InvalidSpec(
                f"runs of {envs[cell.name]!r:.80} and {cell.env!r:.80} would have the same folder {cell.name}; sweep "
                "them one after the other, in folders of their own"
            )


def _differs(config: AgentConfig, other: AgentConfig, name: str) -> bool:
    return bool(getattr(config, name) != getattr(other, name))


def _resolved(spec: Spec, name: str, env: str) -> Flags:
    """Return the flags of a cell, with the preset's number of environments and protocol."""
    protocol = spec.protocol(name) if is_atari(env) else None
    return dataclasses.replace(spec.flags, num_envs=spec.num_envs(name), protocol=protocol)


def _name(env: str, agent: str, seed: int) -> str:
    bare = short_name(env)
    if ":" in env:  # a class or function with arguments, or an id of a module
        bare = f"{_slug(bare)}-{_digest(env)}"
    elif not is_atari(env):
        bare = env.replace("/", "-")
    name = f"{bare}-{agent}-seed{seed}"
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 9]}-{_digest(name)}"


def _slug(value: Any) -> str:
    """Return a value as text that may stand in the name of a file, different for different values."""
    text = shown_setting(value)
    slug = re.sub(r"[^A-Za-z0-9._+-]", "_", text)
    return slug if slug == text and len(slug) <= MOST_VALUE else f"{slug[: MOST_VALUE - 9]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
