"""The flags of `pixelq train`."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_type_hints

import tyro

from pixelq.agents import AgentConfig, InvalidRun, UserError, preset
from pixelq.agents.config.agent_config import SPEED_ONLY
from pixelq.agents.config.presets import PRESET_NUM_ENVS, PRESET_PROTOCOLS
from pixelq.agents.config.torchrun import place
from pixelq.agents.errors import UnregisteredPart, printable
from pixelq.agents.storage.environments import FromFile, env_arguments
from pixelq.agents.storage.files import read_regular, user_path
from pixelq.agents.storage.former_names import current_preset
from pixelq.agents.storage.json_values import MOST_JSON, check_types
from pixelq.agents.storage.rules import rules_of, split_rules
from pixelq.scripts.command_line import (
    Callbacks,
    EnvKwargs,
    Modules,
    Names,
    allow_working_folder,
    check_least,
    parse,
    split_modules,
    take_env_kwargs,
)

ProtocolName = Literal["sticky", "nature", "100k", "envpool"]
"""Names in `pixelq.envs.PROTOCOLS`."""
_PRESET = "quick"
"""Preset of images, if none is named."""
_PROTOCOL = cast(ProtocolName, PRESET_PROTOCOLS[_PRESET])


@dataclass(frozen=True)
class TrainArgs:
    """Train an agent, and save the run in a folder that evaluate, report, TensorBoard and --resume read."""

    env: str = "ALE/Pong-v5"
    """Gymnasium ID of the environment, with Discrete actions and numeric observations, such as ALE/*-v5; MODULE:ID,
    where importing MODULE registers the ID; or MODULE:NAME, a class or function that returns an environment."""
    preset: str = _PRESET
    """Preset with which the agent's settings start; by default quick for images and classic for vectors. `pixelq
    presets` lists all."""
    name: str | None = None
    """Name of the agent in reports; None for the preset and the settings that differ from it."""
    steps: int = 1_000_000
    """Agent steps of the whole run, summed over environments; an Atari step is four frames."""
    num_envs: int = PRESET_NUM_ENVS[_PRESET]
    """Number of environments played at once; by default the preset's."""
    seed: int = 0
    """Seed of the weights, the environments and all random choices."""
    protocol: ProtocolName = _PROTOCOL
    """Rules of Atari games: those of Machado et al. 2018 (sticky), Mnih et al. 2015 (nature), the 100k benchmark (van
    Hasselt et al. 2019) or PQN (Gallici et al. 2025, envpool); by default the preset's."""
    device: str = "auto"
    """Device to learn on: auto (a GPU if there is one), cpu or cuda."""
    deterministic: bool = False
    """Use only PyTorch algorithms that give identical results every time on a GPU; slower."""
    out: Path | None = None
    """Folder of the run; None for a new folder in runs/."""
    resume: bool = False
    """Continue the run in --out up to --steps, with its own settings."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints; each evaluation also writes one."""
    keep: int = 3
    """Number of newest checkpoints to keep, in addition to the best."""
    evaluate_every: int = 100_000
    """Steps between evaluations."""
    evaluation_episodes: int = 10
    """Number of episodes in each evaluation during training."""
    final_episodes: int = 30
    """Number of episodes in the evaluation at the end."""
    evaluation_episode_steps: int | None = None
    """Steps after which Atari games in evaluations are cut off, during training and at the end; None for the game's own
    limit. The same when a run is resumed, because its evaluations are compared with each other."""
    film: bool = False
    """At the end, film one game of the policy, at most three minutes, as film.mp4 in the run's folder."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    progress: Literal["auto", "bar", "line", "none"] = "auto"
    """How to show progress on stderr: bar, line (one line every half minute and at every evaluation) or none; auto is
    bar on a terminal and line elsewhere."""
    full_action_space: bool = False
    """Use all 18 joystick actions in every Atari game."""
    flicker: float = 0.0
    """Probability, in [0, 1), that a frame of an Atari game is black (Hausknecht & Stone 2015)."""
    frame_size: int | None = None
    """Height and width in pixels to which images are resized; None for the preset's on Atari, and for the original size
    elsewhere. With this flag or --grayscale, images of any environment are stacked, as many as the agent's
    frame_stack."""
    grayscale: bool = False
    """Convert images to greyscale; Atari games always are."""
    max_episode_steps: int | None = None
    """Steps after which an episode is cut off; None for the environment's own limit."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """Keyword argument KEY of the environment; the value is read as TOML or JSON, or else as text. May be repeated."""
    wrappers: Names = ()
    """Wrappers of each environment, innermost first: classes or functions as MODULE:NAME or MODULE:NAME(key=value),
    separated by commas."""
    callbacks: Callbacks = ()
    """Callback: StopAtScore(score=18), StopAfter(hours=2), StopWithoutProgress(evaluations=10), or your own subclass of
    pixelq.agents.Callback as MODULE:NAME or MODULE:NAME(key=value). Separate several by commas, or repeat the flag.
    Give callbacks again when you resume a run."""
    track: Annotated[tuple[Literal["wandb", "mlflow", "trackio"], ...], tyro.conf.UseAppendAction] = ()
    """Service that records the run as well: wandb, mlflow or trackio, configured by its own settings. May be repeated.
    With --resume, the record is continued."""
    track_project: str | None = None
    """Project of the record; None for the one in the service's settings, or else pixelq."""
    modules: Modules = ()
    """Modules to import first, separated by commas, that register or contain environments, wrappers, encoders, heads or
    target rules. Needed again with --resume, because a run's folder alone imports nothing."""
    actors: int | None = None
    """Number of Ray actors that play the environments while this process learns; each has some of the environments and
    a copy of the network. None plays them in this process. --agent.epsilon-ladder explores as Ape-X does."""
    ray_address: str | None = None
    """HOST:PORT of the Ray cluster for the actors, or auto for the cluster of this machine; None starts Ray on this
    machine."""
    actor_gpus: float = 0.0
    """GPUs of each actor, such as 0.1; with 0 an actor computes on the CPU."""
    agent: AgentConfig = field(default_factory=lambda: preset(_PRESET))
    """Settings of the agent; they start with the preset's."""


COUNTS = "steps checkpoint_every keep evaluate_every evaluation_episodes final_episodes log_every".split()
CHANGEABLE = frozenset(
    {*COUNTS, "name", "device", "deterministic", "out", "progress", "resume", "callbacks", "track", "track_project"}
    | {"film", "modules", *(f"agent.{name}" for name in SPEED_ONLY), "actors", "ray_address", "actor_gpus"}
)
"""Flags that may change when a run is resumed."""
NOT_SAVED = frozenset(
    {"callbacks", "device", "film", "modules", "progress", "track", "track_project", "ray_address", "actor_gpus"}
)
"""Flags that a run's folder does not choose."""


def read(arguments: Sequence[str]) -> TrainArgs:
    """Return the flags of a command line; those that are not given are the preset's, or those of the run to resume.

    Raises:
        UserError: If they do not fit.
        InvalidEnv: If there is no environment of that ID.
        InvalidRun: If the run to resume cannot be read, or has other settings.
    """
    arguments, env_kwargs = take_env_kwargs(arguments)
    defaults = _defaults(arguments, env_kwargs)
    args = parse(TrainArgs, "train", arguments, defaults)
    args = replace(args, modules=split_modules(args.modules))
    if args.resume:
        args = replace(args, preset=current_preset(args.preset, vars(defaults.agent)))
    check_least(*((f"--{name.replace('_', '-')}", getattr(args, name), 1) for name in COUNTS))
    check_least(("--num-envs", args.num_envs, 1), ("--seed", args.seed, 0))
    check_least(("--evaluation-episode-steps", args.evaluation_episode_steps, 1))
    check_least(("--max-episode-steps", args.max_episode_steps, 1), ("--frame-size", args.frame_size, 1))
    _check_epsilon(args.agent, defaults.agent)
    _check_actors(args)
    _check_learners(args)
    if args.track_project is not None and not args.track:
        raise UserError("--track-project names a project of --track; give that too, or leave it out")
    if args.resume:
        _check_unchanged(args, defaults)
        return _with_modules(args, defaults, {argument.partition("=")[0] for argument in arguments})
    if ":" not in args.env and not args.callbacks:  # whose modules may register it
        importlib.import_module("pixelq.envs.ids").check_id(args.env)  # by name, since it imports Gymnasium
    return args


def _check_epsilon(given: AgentConfig, defaults: AgentConfig) -> None:
    """Check that no flag changes a linear ε where the agent has a schedule of ε, which it would not change."""
    for name in ("epsilon_start", "epsilon_end", "epsilon_steps"):
        if given.epsilon is not None and getattr(given, name) != getattr(defaults, name):
            raise UserError(
                f"--agent.{name.replace('_', '-')} has no effect with the schedule of --agent.epsilon; "
                "give another schedule there, or --agent.epsilon None as well"
            )


def _check_actors(args: TrainArgs) -> None:
    """Check the number of actors, and that no other flag is about actors where there are none."""
    if args.actors is not None and not 1 <= args.actors <= args.num_envs:
        raise UserError(
            f"--actors must be between 1 and the {args.num_envs:,} environments of --num-envs, which they share, "
            f"got {args.actors:,}"
        )
    if not 0.0 <= args.actor_gpus <= 1.0:
        raise UserError(f"--actor-gpus must be a number in [0, 1], got {args.actor_gpus}")
    for flag, is_given in (("--ray-address", args.ray_address is not None), ("--actor-gpus", args.actor_gpus > 0)):
        if is_given and args.actors is None:
            raise UserError(f"{flag} is about the actors of --actors; give that too, or leave it out")


def _check_learners(args: TrainArgs) -> None:
    """Check that the learners that torchrun has started, if it has, can have equal shares."""
    found = place()
    if found is None:
        return
    if args.actors is not None:
        raise UserError(
            "--actors cannot play for several learners; leave it out, or start one learner, without torchrun"
        )
    batch = args.agent.batch_size if args.agent.algorithm == "dqn" else found.size
    for flag, value in (("--num-envs", args.num_envs), ("--agent.batch-size", batch)):
        if value % found.size and not args.resume:  # whose number of learners is checked first
            raise UserError(f"{flag} must be a multiple of the {found.size} learners of torchrun, got {value:,}")


def _with_modules(args: TrainArgs, saved: TrainArgs, given: Set[str]) -> TrainArgs:
    """Return the flags of a resumed run with the modules that the command line names, and not only the run.

    Args:
        args: The flags.
        saved: Those of the run.
        given: Names of the flags on the command line.
    """
    texts = [args.env] if "--env" in given and ":" in args.env else []
    texts += args.wrappers if "--wrappers" in given else []
    if "--env" not in given:  # texts of a file stay known as such
        args = replace(args, env=saved.env)
    if "--wrappers" not in given:
        args = replace(args, wrappers=saved.wrappers)
    return replace(args, modules=(*args.modules, *(text.partition(":")[0] for text in texts)))


def _check_unchanged(args: TrainArgs, saved: TrainArgs) -> None:
    """Check that a run is resumed with its own settings."""
    values, own = ({**vars(of), **{f"agent.{n}": v for n, v in vars(of.agent).items()}} for of in (args, saved))
    for name in sorted(values.keys() - CHANGEABLE - {"agent"}):
        if name == "protocol" and not saved.env.rpartition(":")[2].startswith("ALE/"):
            continue
        if values[name] != own[name]:
            was, new = (
                ",".join(value) or "left out" if name == "wrappers" else value for value in (own[name], values[name])
            )
            raise InvalidRun(
                f"--{name.replace('_', '-')} must be {was} as in the run in {args.out}, got {new}; "
                "leave the flag out, or start another run in another --out"
            )


def _defaults(arguments: Sequence[str], env_kwargs: dict[str, Any]) -> TrainArgs:
    """Return the defaults of the flags: those of the preset, or the settings of the run to resume.

    The environment's keyword arguments are those of the command line, and for the others those of the run.
    """
    chosen = _choices(arguments)
    if chosen.modules or chosen.wrappers or ":" in chosen.env:
        allow_working_folder()
    for module in chosen.modules:  # it may register parts, which the agent's settings name
        importlib.import_module("pixelq.envs").import_module(module)  # by name, since it imports Gymnasium
    if not chosen.resume:
        is_vector = chosen.preset is None and _observes_vectors(chosen, env_kwargs)
        return replace(defaults_of(chosen.preset or ("classic" if is_vector else _PRESET)), env_kwargs=env_kwargs)
    if chosen.out is None:
        raise InvalidRun("--resume needs --out, the folder of the run")
    try:
        saved = json.loads(read_regular(chosen.out / "config.json", MOST_JSON))
        kinds = get_type_hints(TrainArgs)
        missing = {"env", "protocol", "num_envs", "seed", "steps", "agent"} - saved.keys()
        if missing:
            raise KeyError(*missing)
        if saved["env"] is None:
            raise InvalidRun(
                f"{chosen.out} was trained in environments without a name; resume it from Python, or train in such as "
                "have one: an ID, or classes and functions of a module, also as wrappers, and arguments that JSON has"
            )
        made = env_arguments(saved)
        own = {"env_kwargs": made.pop("env_kwargs", {}), "wrappers": made.pop("wrappers", [])}
        check_types(own, {"env_kwargs": dict, "wrappers": list})
        if not all(isinstance(name, str) for name in own["wrappers"]):
            raise ValueError("wrappers must be names")
        names = kinds.keys() & (saved | made).keys() - NOT_SAVED - {"agent", "protocol", "flicker", *own}
        flags = {name: (saved | made)[name] for name in names}
        # A choice among names is text.
        check_types(flags, {name: kinds[name] if isinstance(kinds[name], type | UnionType) else str for name in names})
        if not flags["env"].rpartition(":")[2].startswith("ALE/"):
            flags.pop("full_action_space", None)  # which had no effect in earlier versions
        flags["agent"] = AgentConfig.from_dict(saved["agent"])
        if "preset" in flags:
            flags["preset"] = current_preset(flags["preset"], saved["agent"])
        flags |= protocol_flags(rules_of(saved))
        flags |= {"env": FromFile(saved["env"]), "env_kwargs": own["env_kwargs"], "wrappers": tuple(own["wrappers"])}
        _check_kwargs(env_kwargs, own["env_kwargs"])
        return TrainArgs(**flags)
    except UnregisteredPart as error:
        raise InvalidRun(f"{chosen.out} cannot be resumed: {error}") from error
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


def _choices(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags that the defaults of the others depend on.

    Raises:
        UserError: If one lacks its value.
    """
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--env", default=TrainArgs.env)
    chooser.add_argument("--import", dest="modules", action="append", default=[])
    chooser.add_argument("--preset")
    chooser.add_argument("--resume", action="store_true")
    chooser.add_argument("--out", type=user_path)
    chooser.add_argument("--wrappers", default="")
    try:
        chosen = chooser.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    chosen.modules = split_modules(chosen.modules)
    return chosen


def defaults_of(name: str) -> TrainArgs:
    """Return the defaults of the flags for a preset.

    Raises:
        InvalidConfig: If there is no such preset.
    """
    settings, protocol = preset(name), cast(ProtocolName, PRESET_PROTOCOLS[name])
    return TrainArgs(preset=name, agent=settings, protocol=protocol, num_envs=PRESET_NUM_ENVS[name])


def _check_kwargs(env_kwargs: dict[str, Any], own: dict[str, Any]) -> None:
    """Check that the `env_kwargs` of the command line are those of the run that it resumes.

    Raises:
        InvalidRun: If one is not.
    """
    for name, value in env_kwargs.items():
        if name not in own or own[name] != value:
            was = json.dumps(own[name]) if name in own else "left out"
            raise InvalidRun(f"--env-kwargs.{name} must be {was:.200} as in the run, got {json.dumps(value):.200}")


def _observes_vectors(chosen: argparse.Namespace, env_kwargs: dict[str, Any]) -> bool:
    """Return whether an environment's observations are vectors; False if it cannot be made, which is told later.

    Args:
        chosen: Its ID and wrappers; the modules that register environments are imported already.
        env_kwargs: Its keyword arguments.
    """
    if chosen.env.rpartition(":")[2].startswith("ALE/"):
        return bool(env_kwargs.get("obs_type") == "ram")
    envs = importlib.import_module("pixelq.envs")  # by name, since it imports Gymnasium
    named = importlib.import_module("pixelq.envs.named")
    try:
        wrappers = named.split_named(chosen.wrappers) if chosen.wrappers else []
        made = envs.make_vec(chosen.env, 1, env_kwargs=env_kwargs, wrappers=wrappers)
    except (envs.InvalidEnv, envs.EnvironmentFailed):
        return False
    made.close()
    return len(made.single_observation_space.shape) == 1


def protocol_flags(rules: str | None) -> dict[str, Any]:
    """Return the values of `--protocol` and `--flicker` for the rules of a run; none outside Atari."""
    name, flicker = split_rules(rules or "")
    return {"protocol": name, "flicker": flicker} if name in get_args(ProtocolName) else {}
