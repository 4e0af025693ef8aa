"""``python -m pixelq.scripts.pack RUN``: adds a run's policy to the pretrained ones, for the makers of the package."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pixelq.agents import DQN, preset
from pixelq.agents.errors import RunFailed, UserError
from pixelq.agents.evaluation.scoring import checkpoints_of, request_of, score
from pixelq.agents.results.formatting import format_duration, format_interval, format_percent, pluralize
from pixelq.agents.results.records import differences
from pixelq.agents.runs.tables import read_run
from pixelq.agents.storage.checkpoint import agent_files
from pixelq.agents.storage.files import replace_folder
from pixelq.agents.storage.pretrained import ALIASES, CARD, CONFIG, EVALUATION, FOLDER
from pixelq.envs import PROTOCOLS
from pixelq.scripts.command_line import check_least, parse
from pixelq.scripts.evaluate import describe
from pixelq.scripts.train import COUNTS, TrainArgs

FLAGS = ("env", "preset", "num_envs", "seed", "protocol", "full_action_space", "flicker", *COUNTS)
"""Of the training, beside the agent's."""


@dataclass(frozen=True)
class PackArgs:
    """Put a run's policy into the package: weights for acting, configuration, a fresh evaluation, and both in words."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    name: str = "pong"
    """Of the policy; one that is there already is replaced."""
    which: Literal["best", "last"] = "best"
    """Checkpoint of the run."""
    episodes: int = 100
    """Full episodes to play, in games that neither the training nor the choice of the best has seen."""
    protocol: Literal["sticky", "nature", "100k"] = "sticky"
    """By whose rules."""
    seed: int = 0
    """Of the games and of the random actions."""
    into: Path = FOLDER
    """Folder of the pretrained policies."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, plays, writes the folder and says where it is."""
    args = parse(PackArgs, "pack", arguments)
    check_least(("--episodes", args.episodes, 1), ("--seed", args.seed, 0))
    if re.fullmatch(r"[a-z][a-z0-9_]*", args.name) is None or args.name in ALIASES:
        raise UserError(f"--name is {args.name!r:.80}; it must be small letters, digits and _, and no alias")
    config, metrics, _ = read_run(args.run)
    if "preset" not in config:
        raise UserError(f"{args.run} was not trained by pixelq train, so no command tells how; give another run")
    config["command"] = command_of(config)
    (checkpoint,) = checkpoints_of(args.run, args.which)
    files = agent_files(DQN.load(checkpoint, "cpu").checkpoint(for_acting=True))
    print(f"playing {pluralize(args.episodes, 'episode')} of {config['env']} ...", file=sys.stderr)
    _, result = score(request_of(checkpoint, args.episodes, protocol=args.protocol, seed=args.seed))
    figures = result.to_json() | {"checkpoint": args.name, "mark": args.name}  # not where it lay on this machine
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
    """The command line of a run's config.json, without device and folder."""
    defaults = vars(TrainArgs())
    changed = {name: config[name] for name in FLAGS if config.get(name, defaults[name]) != defaults[name]}
    if config["protocol"] not in PROTOCOLS:  # no Atari game
        del changed["protocol"]
    changed = {"env": config["env"], "preset": config["preset"], "steps": config["steps"]} | changed
    of_agent = preset(config["preset"]).to_dict()
    changed |= {f"agent.{name}": value for name, value in config["agent"].items() if value != of_agent[name]}
    return " ".join(["pixelq train", *(_flag(name.replace("_", "-"), value) for name, value in changed.items())])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        prefix, _, last = f"--{name}".rpartition(".") if "." in name else ("-", "", name)
        return f"--{name}" if value else f"{prefix}{'.' if '.' in name else '-'}no-{last}"
    return f"--{name} {value}"


def card(name: str, config: Mapping[str, Any], figures: Mapping[str, Any], seconds: float) -> str:
    """What the policy is, how it came about and how well it plays, in words, with its licence."""
    used, step, human = config["hardware"], figures["step"], figures["human_normalized"]
    different = differences(config, preset(config["preset"]))
    settings = ", ".join(key if value is True else f"{key} {value}" for key, value in different.items())
    called = " or ".join(f"`{each}`" for each in (*(a for a, of in ALIASES.items() if of == name), name))
    threads, episodes = pluralize(used["torch_threads"], "thread"), pluralize(figures["episodes"], "episode")
    normalized = format_percent(human)
    device = used["cpu"] if used["device"] == "cpu" else f"{used['device']} and {used['cpu']}"
    rows = {
        "name": called,
        "environment": f"`{config['env']}`, trained under the protocol `{config['protocol']}`",
        "agent": f"preset `{config['preset']}`" + (f" with {settings}" if settings else ""),
        "trained for": f"{step:,} steps ({figures['frames']:,} frames) of seed {config['seed']}, evaluations included "
        f"{format_duration(seconds)} on {device}, {threads}, PyTorch {used['torch']}, pixelq {config['version']}",
        "mean return": f"{format_interval(figures['mean'], *figures['ci95'])} over {episodes} "
        f"under `{figures['protocol']}`, 95% interval; in games that neither training nor the choice of the best saw",
        "human-normalised": "unknown" if human is None else f"{normalized} (0% is random play, 100% a person)",
        "licence": "MIT, as the package; it holds numbers that were learned, and nothing of the game",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\n"
        f"A policy that comes with pixelq: `pixelq evaluate {name} --video out`, or `DQN.load({name!r})` in Python.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        f"Trained with\n\n```\n{_wrapped(config['command'])}\n```\n\n"
        f"`{CONFIG}` has the whole configuration and the hardware, `{EVALUATION}` every episode's return. The weights\n"
        "are those of the online network alone: it acts as the trained agent did, and learns on with a new optimiser.\n"
    )


def _wrapped(command: str) -> str:
    """A command line in lines that a shell takes for one."""
    flags = command.replace(" --", "\n--").split("\n")
    lines = textwrap.wrap(" ".join(flag.replace(" ", "\xa0") for flag in flags), 110, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\xa0", " ")


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("pack"))
