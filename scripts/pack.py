"""`python -m pixelq.scripts.pack RUN`: adds the policy of a run to the pretrained ones, for maintainers."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from pixelq.agents import Agent, preset
from pixelq.agents.config.presets import PRESET_PROTOCOLS
from pixelq.agents.config.schedules import shown_setting
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.evaluation.scoring import checkpoints_of, request_of, score
from pixelq.agents.results.formatting import format_duration, format_interval, format_percent, pluralize
from pixelq.agents.results.records import differences
from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.checkpoint import agent_files
from pixelq.agents.storage.environments import ARGUMENTS, env_arguments
from pixelq.agents.storage.files import replace_folder
from pixelq.agents.storage.pretrained import ALIASES, CARD, CONFIG, EVALUATION
from pixelq.agents.storage.rules import rules_of
from pixelq.envs import is_atari
from pixelq.scripts.evaluate import describe
from pixelq.scripts.flags.pack import PackArgs
from pixelq.scripts.flags.train import COUNTS, defaults_of, protocol_flags
from pixelq.scripts.main import run
from pixelq.scripts.modules import import_modules

ENV_FLAGS = ("max_episode_steps", "frame_size", "grayscale")
GAME_FLAGS = ("env", "preset", "num_envs", "seed", "protocol", "full_action_space", "flicker")
FLAGS = (*GAME_FLAGS, *ENV_FLAGS, *COUNTS, "evaluation_episode_steps")
"""Flags of `pixelq train` that its command line may need, besides those of the agent."""


def main(args: PackArgs) -> None:
    """Play the episodes, write the folder, and print its path."""
    import_modules(args.modules)
    config, metrics, _ = read_run(args.run)
    if "preset" not in config:
        raise UserError(f"{args.run} was not trained by pixelq train, so it has no command line; give another run")
    config["command"] = command_of(config)
    (checkpoint,) = checkpoints_of(args.run, args.which)
    files = agent_files(Agent.load(checkpoint, "cpu").checkpoint(for_acting=True))
    print(f"playing {pluralize(args.episodes, 'episode')} of {config['env']} ...", file=sys.stderr)
    _, result = score(request_of(checkpoint, args.episodes, protocol=args.protocol, seed=args.seed))
    figures = result.to_json() | {"checkpoint": args.name, "mark": args.name}  # not its path on this machine
    seconds = max(
        (float(row["wall_seconds"]) for row in metrics if int(row["step"]) <= result.request.step), default=0.0
    )
    files |= {
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
        EVALUATION: (json.dumps(figures) + "\n").encode(),
        CARD: card(args.name, config, figures, seconds).encode(),
    }
    try:
        args.into.mkdir(parents=True, exist_ok=True)
        replace_folder(args.into / args.name, files)
    except OSError as error:
        raise RunFailed(f"{args.into / args.name} cannot be written ({error.strerror})") from error
    size = sum(map(len, files.values()))
    print(f"{describe(result)}\n\n  policy  {args.into / args.name}   ({size / 1e6:.1f} MB)")


def command_of(config: Mapping[str, Any]) -> str:
    """Return the command line of a run, without device and folder.

    Args:
        config: Contents of the run's config.json.
    """
    defaults = vars(defaults_of(config["preset"]))
    values = {name: value for name, value in config.items() if name not in ("protocol", "flicker")}
    values |= {name: config[ARGUMENTS][name] for name in ENV_FLAGS if name in config.get(ARGUMENTS, {})}
    if is_atari(config["env"]) and values.get("frame_size") == config["agent"].get("frame_size"):
        del values["frame_size"]  # which is a setting of the agent
    values |= protocol_flags(rules_of(config))
    made = env_arguments(config)
    kwargs, wrappers = made.get("env_kwargs", {}), ",".join(map(str, made.get("wrappers", [])))
    changed = {name: values[name] for name in FLAGS if values.get(name, defaults[name]) != defaults[name]}
    changed = {"env": config["env"], "preset": config["preset"], "steps": config["steps"]} | changed
    of_agent = preset(config["preset"]).to_dict()
    changed |= {
        f"agent.{name}": _shown(value) for name, value in config["agent"].items() if value != of_agent.get(name)
    }
    changed |= {f"env-kwargs.{name}": json.dumps(value) for name, value in kwargs.items()}
    changed |= {"wrappers": wrappers} if wrappers else {}
    return " ".join(["pixelq train", *(_flag(name.replace("_", "-"), value) for name, value in changed.items())])


def _shown(value: Any) -> Any:
    """Return the value of a field as the command line takes it."""
    return shown_setting(value).replace(", ", ",") if isinstance(value, dict) else value


def _flag(name: str, value: Any) -> str:
    """Return a flag with its value, as a shell takes it."""
    if isinstance(value, bool):
        prefix, _, last = f"--{name}".rpartition(".") if "." in name else ("-", "", name)
        return f"--{name}" if value else f"{prefix}{'.' if '.' in name else '-'}no-{last}"
    return " ".join(
        [f"--{name}", *(shlex.quote(str(each)) for each in (value if isinstance(value, list) else [value]))]
    )


def card(name: str, config: Mapping[str, Any], figures: Mapping[str, Any], seconds: float) -> str:
    """Return the card of a policy, as Markdown: its training, how well it plays, and its licence.

    Args:
        name: Name of the policy.
        config: Contents of the run's config.json, with the command line under `command`.
        figures: JSON values of its evaluation.
        seconds: Seconds of training up to its checkpoint, evaluations included.
    """
    used, step, human = config["hardware"], figures["step"], figures["human_normalized"]
    different = differences(config, preset(config["preset"]), PRESET_PROTOCOLS[config["preset"]])
    shown = {key: shown_setting(value).replace(", ", ",") for key, value in different.items()}
    settings = ", ".join(key if value == "True" else f"{key} {value}" for key, value in shown.items())
    called = " or ".join(f"`{each}`" for each in (*(a for a, of in ALIASES.items() if of == name), name))
    threads, episodes = pluralize(used["torch_threads"], "thread"), pluralize(figures["episodes"], "episode")
    normalized = format_percent(human)
    device = used["cpu"] if used["device"] == "cpu" else f"{used['device']} and {used['cpu']}"
    kind = str(config["agent"].get("algorithm", "dqn")).upper()
    rows = {
        "name": called,
        "environment": f"`{config['env']}`, trained under the protocol `{rules_of(config)}`",
        "agent": f"{kind}, preset `{config['preset']}`" + (f" with {settings}" if settings else ""),
        "training": f"{step:,} steps ({figures['frames']:,} frames) with seed {config['seed']}; "
        f"{format_duration(seconds)} including evaluations, on {device}, {threads}, PyTorch {used['torch']}, "
        f"pixelq {config['version']}",
        "mean return": f"{format_interval(figures['mean'], *figures['ci95'])} over {episodes} under "
        f"`{figures['protocol']}`, with a 95% interval, in games used neither for training nor for choosing the policy",
        "human-normalised score": "unknown"
        if human is None
        else f"{normalized} (0% is random play, 100% a human player)",
        "licence": "MIT, like the package; the files hold learned weights and nothing of the game",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\n"
        f"A pretrained policy of pixelq: `pixelq evaluate {name} --video out`, or `{kind}.load({name!r})` in "
        "Python.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        f"Trained with\n\n```\n{_wrapped(config['command'])}\n```\n\n"
        f"`{CONFIG}` holds the full configuration and the hardware, and `{EVALUATION}` the return of every episode.\n"
        "The weights are those of the online network alone: the policy acts as the trained agent did, and further\n"
        "training starts with a new optimiser.\n"
    )


def _wrapped(command: str) -> str:
    """Return a command line broken into lines that a shell joins."""
    flags = command.replace(" --", "\n--").split("\n")
    lines = textwrap.wrap(" ".join(flag.replace(" ", "\xa0") for flag in flags), 110, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\xa0", " ")


if __name__ == "__main__":
    sys.exit(run("pack"))
