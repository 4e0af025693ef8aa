"""``pixelq evaluate``: plays full episodes with a saved policy and says how good it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pixelq.agents import DQN, Evaluation, InvalidCheckpoint, evaluate
from pixelq.agents.checkpoint import find_checkpoint
from pixelq.agents.film import film_episode
from pixelq.agents.seeds import derived_seed
from pixelq.envs import GYMNASIUM, PROTOCOLS, InvalidEnv, make_filmed, make_vec
from pixelq.scripts.command_line import (
    STDOUT,
    UsageError,
    check_least,
    check_writable,
    make_folder,
    optional_value,
    parse,
    write_json,
)

NUM_ENVS = 8


@dataclass(frozen=True)
class EvaluateArgs:
    """Evaluate a saved policy over full episodes in fresh games."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_CHECKPOINT")]
    """A run's folder (its best checkpoint, or else its latest), or one checkpoint."""
    episodes: int = 30
    """Full episodes to play."""
    protocol: Literal["sticky", "nature"] | None = None
    """Atari rules and ε: sticky (Machado et al. 2018, ε 0.001) or nature (Mnih et al. 2015, ε 0.05); None for those
    of the training."""
    seed: int = 0
    """Of the games and of the random actions."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    json: Path | None = None
    """Write the figures as JSON to this file, or to stdout if no file is given."""
    video: Path | None = None
    """Folder for an mp4 of one more episode."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, evaluates and prints."""
    args = parse(EvaluateArgs, "evaluate", optional_value(list(arguments), "--json"))
    check_least(("--episodes", args.episodes, 1), ("--seed", args.seed, 0))
    find_checkpoint(args.checkpoint)  # before anything is written
    if args.json not in (None, STDOUT):
        check_writable(args.json, "--json")
    if args.video is not None:
        make_folder(args.video, "--video")
    agent, folder, result, protocol = evaluate_saved(
        args.checkpoint,
        args.episodes,
        protocol=args.protocol,
        seed=args.seed,
        device=args.device,
        film=args.video is not None,
    )
    if args.json != STDOUT:
        print(describe(result, f"{folder.name} (step {agent.step:,})"))
    if args.json is not None:
        write_json(figures(agent, folder, result, protocol), args.json)
    if args.video is not None:
        path = args.video / f"{result.env.split('/')[-1]}-step{agent.step}-seed{args.seed}.mp4"
        epsilon = PROTOCOLS[protocol].evaluation_epsilon if protocol in PROTOCOLS else 0.0
        seed = derived_seed(args.seed, "evaluation")
        total = film_episode(
            agent,
            result.env,
            path,
            protocol=protocol if protocol in PROTOCOLS else "sticky",
            full_action_space=has_full_action_space(agent),
            epsilon=epsilon,
            seed=seed,
        )
        print(f"filmed an episode of return {total:g}: {path}", file=sys.stderr)


def evaluate_saved(
    path: Path,
    episodes: int,
    *,
    protocol: str | None = None,
    seed: int = 0,
    device: str = "auto",
    film: bool = False,
) -> tuple[DQN, Path, Evaluation, str]:
    """Evaluates a run or checkpoint in fresh games of its environment; with ``film``, only if it draws pictures.

    Returns:
        the agent, the checkpoint's folder, the evaluation and the name of the protocol played.

    Raises:
        InvalidCheckpoint: it cannot be loaded, or belongs to no environment that can be made by its id.
        UsageError: its protocol has no name, or its environment cannot be filmed.
    """
    folder = find_checkpoint(path)
    if folder.is_symlink():
        folder = folder.with_name(folder.resolve().name)
    agent = DQN.load(folder, device)
    if agent.env_id is None:
        raise InvalidCheckpoint(f"{path} does not say which environment it was trained in; evaluate it from Python")
    if protocol is None and agent.protocol not in (*PROTOCOLS, GYMNASIUM.name):
        raise UsageError(f"{path} was trained with a protocol of its own, {agent.protocol!r}; give --protocol")
    protocol = protocol or (agent.protocol if agent.protocol in PROTOCOLS else "sticky")
    envs = make_vec(
        agent.env_id,
        min(NUM_ENVS, episodes),
        derived_seed(seed, "evaluation"),
        protocol,
        full_action_space=has_full_action_space(agent),
    )
    if not agent.fits(envs):
        envs.close()
        raise InvalidCheckpoint(f"{path} was trained on other observations or actions than {agent.env_id} has here")
    if film:
        try:
            make_filmed(agent.env_id).close()
        except InvalidEnv as error:
            raise UsageError(f"{error}; leave out --video") from error
    result = evaluate(agent, envs, episodes, epsilon=envs.protocol.evaluation_epsilon, seed=seed)
    name = envs.protocol.name
    envs.close()
    return agent, folder, result, name


def has_full_action_space(agent: DQN) -> bool:
    """Whether an Atari agent plays with all 18 joystick actions, its game's own or not."""
    return agent.num_actions == 18


def describe(result: Evaluation, policy: str) -> str:
    """The figures in a few lines for people."""
    low, high = result.ci95
    lines = [
        f"{result.env} · {policy} · {result.episodes} episodes",
        f"  mean return  {result.mean:.1f}   95% interval {low:.1f} to {high:.1f}",
        f"  median       {result.median:.1f}   standard deviation {result.std:.1f}",
        f"  mean length  {sum(result.lengths) / result.episodes:.0f} steps",
    ]
    if result.human_normalized is not None:
        lines.append(f"  human-normalised {100 * result.human_normalized:.0f}% (0% is random play, 100% a person)")
    return "\n".join(lines)


def figures(agent: DQN, folder: Path, result: Evaluation, protocol: str) -> dict[str, Any]:
    """The evaluation of a checkpoint as JSON values."""
    return {
        "env": result.env,
        "protocol": protocol,
        "checkpoint": str(folder),
        "step": agent.step,
        "episodes": result.episodes,
        "returns": result.returns,
        "lengths": result.lengths,
        "mean": result.mean,
        "median": result.median,
        "std": result.std,
        "ci95": result.ci95,
        "human_normalized": result.human_normalized,
    }


if __name__ == "__main__":
    from pixelq.scripts.main import run

    sys.exit(run("evaluate"))
