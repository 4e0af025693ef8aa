"""The flags of `pixelq train`."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_type_hints

import tyro

from pixelq.agents import AgentConfig, InvalidRun, UserError, preset
from pixelq.agents.config.presets import PRESET_PROTOCOLS
from pixelq.agents.errors import printable
from pixelq.agents.storage.files import read_regular, user_path
from pixelq.agents.storage.json_values import MOST_JSON, check_types
from pixelq.agents.storage.rules import rules_of, split_rules, time_limit
from pixelq.scripts.command_line import Modules, check_least, parse

ProtocolName = Literal["sticky", "nature", "100k"]
"""Names in `pixelq.envs.PROTOCOLS`."""


@dataclass(frozen=True)
class TrainArgs:
    """Train an agent, and keep everything in a folder that evaluate, report, TensorBoard and --resume read."""

    env: str = "ALE/Pong-v5"
    """Gymnasium ID of the environment: ALE/*-v5, or any with Discrete actions and a Box observation; MODULE:ID imports
    the module that registers it."""
    preset: str = "quick"
    """Preset from which the agent's settings start, by default quick for images and classic for vectors; `pixelq
    presets` lists them."""
    name: str | None = None
    """Name of the agent in reports; None for the preset and the settings that differ from it."""
    steps: int = 1_000_000
    """Agent steps of the whole run, summed over environments; an Atari step is four frames."""
    num_envs: int = 8
    """Number of environments played at once."""
    seed: int = 0
    """Seed of the weights, the games and every random choice."""
    protocol: ProtocolName = "sticky"
    """Rules of Atari games: Machado et al. 2018, Mnih et al. 2015, or the 100k benchmark (van Hasselt et al. 2019); by
    default the preset's own."""
    device: str = "auto"
    """Device to learn on: auto (a GPU if there is one), cpu or cuda."""
    deterministic: bool = False
    """Use only algorithms of PyTorch that repeat their results exactly on a GPU; slower."""
    out: Path | None = None
    """Folder of the run; None for a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out up to --steps, with its own settings."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints; each evaluation writes one too."""
    keep: int = 3
    """Number of newest checkpoints to keep, besides the best."""
    evaluate_every: int = 100_000
    """Steps between evaluations."""
    evaluation_episodes: int = 10
    """Number of episodes in each evaluation during training."""
    final_episodes: int = 30
    """Number of episodes in the evaluation at the end."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    progress: Literal["auto", "bar", "line", "none"] = "auto"
    """How to show progress on stderr: bar, line (one every half minute and at every evaluation) or none; auto is the
    bar on a terminal and lines elsewhere."""
    full_action_space: bool = False
    """Use all 18 joystick actions on every Atari game."""
    flicker: float = 0.0
    """Probability, in [0, 1), that a frame of an Atari game is black (Hausknecht & Stone 2015)."""
    max_episode_steps: int | None = None
    """Steps after which an episode is cut off; None for the environment's own limit."""
    track: Annotated[tuple[Literal["wandb", "mlflow", "trackio"], ...], tyro.conf.UseAppendAction] = ()
    """Service that keeps a record of the run, by the service's own settings: wandb, mlflow or trackio; may be repeated.
    With --resume, the run goes on in its record."""
    track_project: str | None = None
    """Project of the record; None for the one that the service's settings name, or else pixelq."""
    modules: Modules = ()
    """Module that registers environments, to import first; with --resume, the run alone imports none."""
    agent: AgentConfig = field(default_factory=lambda: preset("quick"))
    """The agent's settings; they start from the preset's."""


COUNTS = "steps checkpoint_every keep evaluate_every evaluation_episodes final_episodes log_every".split()
CHANGEABLE = frozenset(
    {*COUNTS, "name", "device", "deterministic", "out", "progress", "resume", "track", "track_project", "modules"}
    | {"agent.cuda_graph"}
)
"""Flags that may change when a run is resumed."""
NOT_SAVED = frozenset({"device", "modules", "progress", "track", "track_project"})
"""Flags that a run's folder does not choose."""


def read(arguments: Sequence[str]) -> TrainArgs:
    """Return the flags of a command line; those that are not given are the preset's, or those of the run to resume.

    Raises:
        UserError: If they do not fit.
        InvalidRun: If the run to resume cannot be read, or has other settings.
    """
    defaults = _defaults(arguments)
    args = parse(TrainArgs, "train", arguments, defaults)
    if args.out is not None:
        args = replace(args, out=user_path(args.out))
    check_least(*((f"--{name.replace('_', '-')}", getattr(args, name), 1) for name in COUNTS))
    check_least(("--max-episode-steps", args.max_episode_steps, 1))
    if args.track_project is not None and not args.track:
        raise UserError("--track-project names a project of --track; give that too, or leave it out")
    if args.resume:
        _check_unchanged(args, defaults)
        module = args.env.rpartition(":")[0]
        if module and any(argument.partition("=")[0] == "--env" for argument in arguments):
            return replace(args, modules=(*args.modules, module))  # the command line names it, and not only the run
    return args


def _check_unchanged(args: TrainArgs, saved: TrainArgs) -> None:
    """Check that a run is resumed with its own settings."""
    values, own = ({**vars(of), **{f"agent.{n}": v for n, v in vars(of.agent).items()}} for of in (args, saved))
    for name in sorted(values.keys() - CHANGEABLE - {"agent"}):
        if name == "protocol" and not saved.env.rpartition(":")[2].startswith("ALE/"):
            continue
        if values[name] != own[name]:
            raise InvalidRun(
                f"--{name.replace('_', '-')} must be {own[name]} as in the run in {args.out}, got {values[name]}; "
                "leave the flag out, or start another run in another --out"
            )


def _defaults(arguments: Sequence[str]) -> TrainArgs:
    """Return the defaults of the flags: those of the preset, or the settings of the run to resume."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--env", default=TrainArgs.env)
    chooser.add_argument("--import", dest="modules", action="append", default=[])
    chooser.add_argument("--preset")
    chooser.add_argument("--resume", action="store_true")
    chooser.add_argument("--out", type=user_path)
    try:
        chosen = chooser.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if not chosen.resume:
        return defaults_of(chosen.preset or ("classic" if _observes_vectors(chosen.env, chosen.modules) else "quick"))
    if chosen.out is None:
        raise InvalidRun("--resume needs --out, the folder of the run")
    try:
        saved = json.loads(read_regular(chosen.out / "config.json", MOST_JSON))
        kinds = get_type_hints(TrainArgs)
        missing = {"env", "protocol", "num_envs", "seed", "steps", "agent"} - saved.keys()
        if missing:
            raise KeyError(*missing)
        if saved["env"] is None:
            raise InvalidRun(f"{chosen.out} was trained in environments without an ID; resume it from Python")
        names = kinds.keys() & saved.keys() - NOT_SAVED - {"agent", "protocol", "flicker"}
        flags = {name: saved[name] for name in names}
        time_limit(flags)
        # A choice among names is text.
        check_types(flags, {name: kinds[name] if isinstance(kinds[name], type | UnionType) else str for name in names})
        flags["agent"] = AgentConfig.from_dict(saved["agent"])
        flags |= protocol_flags(rules_of(saved))
        return TrainArgs(**flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidRun(f"no run in {chosen.out}; leave out --resume to start one") from error
    except OSError as error:
        raise InvalidRun(
            f"{chosen.out / 'config.json'} cannot be read ({error.strerror}); restore the file, or start another run"
        ) from error
    except InvalidRun:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRun(
            f"{chosen.out / 'config.json'} is damaged ({printable(str(error), 300)}); restore the file, or start "
            "another run"
        ) from error


def defaults_of(name: str) -> TrainArgs:
    """Return the defaults of the flags for a preset.

    Raises:
        InvalidConfig: If there is no such preset.
    """
    return TrainArgs(preset=name, agent=preset(name), protocol=cast(ProtocolName, PRESET_PROTOCOLS[name]))


def _observes_vectors(env_id: str, modules: Sequence[str]) -> bool:
    """Return whether an environment's observations are vectors; False if it cannot be made, which is told later.

    Args:
        env_id: ID of the environment.
        modules: Modules that register environments.
    """
    if env_id.rpartition(":")[2].startswith("ALE/"):
        return False
    envs = importlib.import_module("pixelq.envs")  # by name, since it imports Gymnasium
    try:
        for module in modules:
            envs.import_module(module)
        made = envs.make_vec(env_id, 1)
    except (envs.InvalidEnv, envs.EnvironmentFailed):
        return False
    made.close()
    return len(made.single_observation_space.shape) == 1


def protocol_flags(rules: str | None) -> dict[str, Any]:
    """Return the values of `--protocol` and `--flicker` for the rules of a run; none outside Atari."""
    name, flicker = split_rules(rules or "")
    return {"protocol": name, "flicker": flicker} if name in get_args(ProtocolName) else {}
