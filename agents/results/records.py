"""Runs as arrays, named by their agent, and groups of runs that differ in nothing but their seed."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixelq.agents.config.agent_config import NEWER, SPEED_ONLY, AgentConfig
from pixelq.agents.config.presets import PRESET_PROTOCOLS, PRESETS, preset_of
from pixelq.agents.config.schedules import shown_setting
from pixelq.agents.errors import InvalidConfig, InvalidRun, one_line
from pixelq.agents.evaluation.limits import evaluation_limit, is_cut
from pixelq.agents.results.formatting import identified, shortened
from pixelq.agents.runs.columns import GREATEST, Columns, read_columns
from pixelq.agents.runs.tables import FINAL_EVALUATION, read_config
from pixelq.agents.storage.environments import env_arguments
from pixelq.agents.storage.files import read_regular
from pixelq.agents.storage.json_values import MOST_JSON, is_count, is_number
from pixelq.agents.storage.rules import with_rules
from pixelq.envs import GYMNASIUM, has_published_rules, is_atari, split_rules
from pixelq.envs.games import published_id

EVALUATED = "evaluated for at most"
"""Beginning of the part of an agent's name that says that games of its evaluations were cut off."""
MOST_PARTS = 3
"""Greatest number of settings in the short name of an agent."""
_TYPES = {
    "name": (str, "text"),
    "seed": (int, "a whole number"),
    "steps": (int, "a whole number"),
    "num_envs": (int, "a whole number"),
    "hardware": (dict, "an object"),
}
"""Types of the entries of config.json that records use, and what errors call them."""


class MeanReturn(NamedTuple):
    """Mean raw return of one evaluation."""

    mean: float
    """Mean over its episodes."""
    low: float
    """Lower end of the 95% interval over its episodes."""
    high: float
    """Upper end of the 95% interval over its episodes."""
    episodes: int
    """Number of episodes."""
    step: int
    """Number of agent steps that the policy had been trained for."""


@dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
        path: The folder, as the user named it.
        config: Contents of config.json.
        metrics: Columns of metrics.csv.
        evaluations: Columns of evaluations.csv.
        final: Evaluation of the best checkpoint in games that it was not chosen by; None before the run has finished.
    """

    path: Path
    config: dict[str, Any]
    metrics: Columns
    evaluations: Columns
    final: MeanReturn | None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return Path(os.path.abspath(self.path)).name

    @property
    def seed(self) -> str:
        """Seed as text; a question mark if it is unknown."""
        return shortened(self.config.get("seed", "?"), 40)

    @property
    def steps(self) -> int:
        """Number of agent steps so far."""
        return int(self.metrics["step"][-1]) if len(self.metrics["step"]) else 0

    @property
    def frames(self) -> int:
        """Number of emulator frames so far."""
        return int(self.metrics["frames"][-1]) if len(self.metrics["frames"]) else 0

    @property
    def frames_per_step(self) -> float:
        """Number of frames in an agent step; 1 before the first step."""
        return self.frames / self.steps if self.steps else 1.0

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, including evaluations; NaN if it is unknown."""
        return float(self.metrics["wall_seconds"][-1]) if self.steps else 0.0

    @property
    def last(self) -> MeanReturn | None:
        """Last evaluation during training."""
        return self._evaluation(-1) if len(self.evaluations["step"]) else None

    @property
    def best(self) -> MeanReturn | None:
        """Evaluation by which the best checkpoint was chosen; as the greatest of several, it is biased upwards."""
        means = self.evaluations["mean"]
        return self._evaluation(int(np.nan_to_num(means, nan=-np.inf).argmax())) if len(means) else None

    def _evaluation(self, row: int) -> MeanReturn:
        mean, low, high, episodes, step = (
            self.evaluations[name][row] for name in ("mean", "ci95_low", "ci95_high", "episodes", "step")
        )
        return MeanReturn(float(mean), float(low), float(high), int(episodes), int(step))


@dataclass(frozen=True)
class Group:
    """Runs of one agent on one environment, each with a different seed.

    Attributes:
        agent: Name of the preset and the settings that differ from it, as in `dqn, n_step 3`.
        env: Environment id.
        protocol: Rules that the runs were trained under, such as `sticky` or `sticky+flicker=0.5`.
        runs: The N runs, ordered by seed.
        label: Short name: the preset, and the settings that tell it from the other agents that were read with it.
    """

    agent: str
    env: str
    protocol: str
    runs: tuple[Run, ...]
    label: str = ""

    @property
    def preset(self) -> str:
        """Name of the preset; `custom` without one."""
        return shortened(preset_name(self.runs[0].config))

    @property
    def has_published_rules(self) -> bool:
        """Whether the published agents were trained under the same rules, and games are played to their end."""
        return has_published_rules(self.protocol) and not self.is_cut and bool(self.published_env)

    @property
    def is_cut(self) -> bool:
        """Whether games of training or evaluations were cut off, as `is_cut` says."""
        return any(is_cut(run.config) for run in self.runs)

    @property
    def evaluation_limit(self) -> int | None:
        """Agent steps after which games of its evaluations were cut off, as `evaluation_limit` returns them."""
        return evaluation_limit(self.runs[0].config)

    @property
    def published_env(self) -> str:
        """Environment id by which published numbers are found; empty if they are not comparable."""
        ids = {published_env(run.config) for run in self.runs}
        return self.env if ids == {self.env} else ""


def read_groups(paths: Iterable[str | os.PathLike[str]]) -> list[Group]:
    """Read run folders, each once, and group the runs by environment and agent, in the order of their first run.

    Runs under different protocols belong to different agents. The protocol is part of the name unless it is the
    preset's own, and so is flicker if there is any. Runs with different numbers of steps, or of environments at once,
    are also different agents; these numbers are then part of their names. So is what cuts off games of evaluations.

    Raises:
        InvalidRun: If no run is given, one cannot be read, or two are of the same agent with the same seed.
    """
    folders: dict[Path, Path] = {}  # the path as given, by the resolved one
    for path in paths:
        folders.setdefault(Path(path).resolve(), Path(path))
    if not folders:
        raise InvalidRun("no run is given; give the folders of one or more")
    found = [load_run(folder) for folder in folders.values()]
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run, agent in zip(found, _agent_names(found), strict=True):
        env, protocol = (identified(run.config[name]) for name in ("env", "protocol"))
        groups.setdefault((env, agent, protocol), []).append(run)
    for (env, agent, _), runs in groups.items():
        seen: dict[Any, Run] = {}
        for run in runs:
            twin = seen.setdefault(run.config.get("seed"), run)
            if twin is not run:
                raise InvalidRun(
                    f"{twin.path} and {run.path} are both {agent} on {env} with seed {run.seed}; give one of them"
                )
    labels = _labels(agent for _, agent, _ in groups)
    return [
        Group(agent, env, protocol, tuple(sorted(runs, key=lambda run: run.seed.zfill(20))), labels[agent])
        for (env, agent, protocol), runs in groups.items()
    ]


def load_run(folder: Path) -> Run:
    """Read one run folder.

    Raises:
        InvalidRun: If there is no run in it, or one of its files is damaged.
    """
    config = read_config(folder)
    metrics, evaluations = (read_columns(folder, table) for table in ("metrics", "evaluations"))
    for name, (kind, called) in _TYPES.items():
        value = config.get(name)
        if value is not None and type(value) is not kind:
            raise InvalidRun(f"{name} in {folder / 'config.json'} must be {called}, got {value!r:.80}")
    return Run(folder, config, metrics, evaluations, _final_score(folder))


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read a file that `pixelq evaluate --json` wrote; its `protocol` then holds flicker too, as in `rules_of`.

    Its mean is None if it was not finite.

    Raises:
        InvalidRun: If the file is missing, or holds something else.
    """
    try:
        evaluation = json.loads(read_regular(path, MOST_JSON))
    except OSError as error:
        raise InvalidRun(
            f"{path} cannot be read ({error.strerror}); let the run finish, or give a file of pixelq evaluate --json"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRun(f"{path} is damaged ({one_line(error)}); evaluate the run again") from error
    if (
        not isinstance(evaluation, dict)
        or not all(isinstance(evaluation.get(name), str) for name in ("env", "protocol", "checkpoint"))
        or not is_count(evaluation.get("step"))
        or "mean" not in evaluation
        or not (evaluation["mean"] is None or is_number(evaluation["mean"]))
    ):
        raise InvalidRun(f"{path} does not describe an evaluation; give a file of pixelq evaluate --json")
    try:
        return with_rules(evaluation)
    except ValueError as error:
        raise InvalidRun(f"{path} does not describe an evaluation ({error}); evaluate the run again") from error


def preset_name(config: Mapping[str, Any]) -> str:
    """Return the preset with the settings of a run, or else the one from which they started; `custom` without one.

    Args:
        config: Contents of config.json.
    """
    recorded = str(config.get("preset", "custom"))
    try:
        return preset_of(AgentConfig.from_dict(config.get("agent", {}))) or recorded
    except (InvalidConfig, TypeError):  # of another version
        return recorded


def published_env(config: Mapping[str, Any]) -> str:
    """Return the environment id by which published numbers are found; empty if they are not comparable.

    Args:
        config: Contents of a run's config.json.
    """
    return published_id(str(config["env"]), env_arguments(config))


def differences(config: Mapping[str, Any], settings: AgentConfig, protocol: str = "sticky") -> dict[str, Any]:
    """Return the entries of a run's config.json that differ from an agent's settings under given rules.

    These are a protocol (`gymnasium` outside Atari), the game's minimal action set, no flicker, and environments
    without arguments of their own.

    Args:
        config: Contents of config.json.
        settings: Settings to compare with.
        protocol: Name of the protocol to compare with.
    """
    agent = config["agent"]
    own = dict.fromkeys(NEWER) | settings.to_dict()
    different = {name: agent[name] for name, value in own.items() if agent.get(name, value) != value}
    own_protocol, flicker = split_rules(str(config["protocol"]))
    if own_protocol not in (protocol, GYMNASIUM.name):
        different["protocol"] = own_protocol
    made = env_arguments(config)
    if made.pop("full_action_space", False):
        different["full_action_space"] = True
    if flicker:
        different["flicker"] = flicker
    if made.get("max_episode_steps"):
        different["max_episode_steps"] = made.pop("max_episode_steps")
    made.pop("frame_stack", None)  # these two are settings of the agent too
    size = made.pop("frame_size", None)
    if not is_atari(str(config["env"])) and size is None:  # where a preset's size of frames does not count
        different.pop("frame_size", None)
    for name, value in made.items():
        if isinstance(value, dict):
            different |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            different[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return different


def evaluated_for(limit: int | None) -> str:
    """Return the end of an agent's name whose evaluations cut off games after some steps; empty if they do not."""
    return "" if limit is None else f", {EVALUATED} {limit} steps"


def agent_of(config: Mapping[str, Any]) -> str:
    """Return the name of a run's agent, as `trained_agent_of` does, and how long its evaluations are if they are cut.

    Args:
        config: Contents of config.json.
    """
    return trained_agent_of(config) + evaluated_for(evaluation_limit(config))


def trained_agent_of(config: Mapping[str, Any]) -> str:
    """Return the name of the agent that a run trained: its preset, and the settings and protocol that differ from it.

    A run without a preset is called `custom` and compared with the default settings and `sticky`.

    Args:
        config: Contents of config.json.
    """
    name = preset_name(config)
    settings = PRESETS[name]() if name in PRESETS else AgentConfig()
    different = differences(config, settings, PRESET_PROTOCOLS.get(name, "sticky"))
    values = (
        f"{key} {identified(shown_setting(value).replace(', ', ','))}"
        for key, value in different.items()
        if key not in SPEED_ONLY
    )
    return ", ".join([identified(name), *values])


def _labels(agents: Iterable[str]) -> dict[str, str]:
    """Return short names of agents that differ from each other, by their whole names.

    Settings that all agents of a preset share are left out, and so are those after the first `MOST_PARTS`; that games
    of evaluations were cut off is not.
    """
    parts = {agent: re.split(r", (?=[a-z0-9_,]+ )", agent) for agent in dict.fromkeys(agents)}
    found = {}
    for agent, (name, *settings) in parts.items():
        same = [set(others) for other, *others in parts.values() if other == name]
        shared = set.intersection(*same) if len(same) > 1 else set()
        cut = [setting for setting in settings if setting.startswith(EVALUATED)]
        own = [setting for setting in settings if setting not in shared and setting not in cut]
        left_out = len(own) - MOST_PARTS
        if left_out > 1:
            own = [*own[:MOST_PARTS], f"{left_out} more"]
        found[agent] = ", ".join([name, *own, *cut])
    return found if len(set(found.values())) == len(found) else {agent: agent for agent in parts}


def _agent_names(runs: Sequence[Run]) -> list[str]:
    """Return the agent of each run, with the training options that tell runs of the same agent apart.

    A name that was given to the run comes first; the settings follow where runs of different agents have the same name.
    """
    agents = [trained_agent_of(run.config) for run in runs]
    names_given = [run.config.get("name") for run in runs]
    given = [identified(name) if name else agent for name, agent in zip(names_given, agents, strict=True)]
    named = Counter(name for name, _ in set(zip(given, agents, strict=True)))
    agents = [name if named[name] == 1 else f"{name}, {agent}" for name, agent in zip(given, agents, strict=True)]
    agents = [agent + evaluated_for(evaluation_limit(run.config)) for agent, run in zip(agents, runs, strict=True)]
    names = agents
    for setting, unit in (("steps", "steps"), ("num_envs", "environments at once")):
        values = [run.config.get(setting) for run in runs]
        kinds = Counter(agent for agent, _ in set(zip(agents, values, strict=True)))
        names = [
            name if kinds[agent] == 1 else f"{name}, {'unknown' if value is None else f'{value:,}'} {unit}"
            for name, agent, value in zip(names, agents, values, strict=True)
        ]
    return names


def _final_score(folder: Path) -> MeanReturn | None:
    """Return the evaluation at the end of a run; None if the run has not finished.

    Raises:
        InvalidRun: If the file is damaged.
    """
    path = folder / FINAL_EVALUATION
    if not path.exists():
        return None
    values = read_evaluation(path)
    try:
        mean, low, high = (
            float(value) if value is not None and float(abs(value)) <= GREATEST else math.nan
            for value in (values["mean"], *values["ci95"])
        )
        return MeanReturn(mean, low, high, int(values["episodes"]), int(values["step"]))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise InvalidRun(f"{path} does not describe an evaluation; evaluate the run again") from error
