"""``pixelq train``: trains an agent, evaluates the policy it saved, and keeps everything in a folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pixelq.agents import DQN, AgentConfig, InvalidRun, evaluate, preset
from pixelq.agents.checkpoint import InvalidCheckpoint, read_checkpoint
from pixelq.envs import make_vec
from pixelq.scripts.command_line import UsageError, parse

EVALUATION_SEED = 1_000_003  # added to the run's seed, so that no training game is evaluated


@dataclass(frozen=True)
class TrainArgs:
    """Train an agent. Everything is kept in a folder that evaluate, TensorBoard and --resume read."""

    env: str = "ALE/Pong-v5"
    """Gymnasium id: ALE/*-v5, or any with Discrete actions and a Box observation."""
    preset: str = "quick"
    """Where the agent's settings come from; `pixelq presets` lists them."""
    steps: int = 1_000_000
    """Agent steps in all, summed over environments; an Atari step is four frames."""
    num_envs: int = 8
    """Environments played at once."""
    seed: int = 0
    """Of the weights, the games and every random choice."""
    protocol: Literal["sticky", "nature"] = "sticky"
    """Atari rules: Machado et al. 2018 or Mnih et al. 2015."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""
    out: Path | None = None
    """The run's folder; by default a new one under runs/."""
    resume: bool = False
    """Go on with the run in --out, up to --steps; its own configuration holds."""
    checkpoint_every: int = 50_000
    """Steps between checkpoints."""
    evaluate_every: int = 50_000
    """Steps between evaluations."""
    evaluation_episodes: int = 10
    """Episodes in each evaluation during training."""
    final_episodes: int = 30
    """Episodes in the evaluation at the end."""
    log_every: int = 1_000
    """Steps between rows of metrics.csv."""
    full_action_space: bool = False
    """All 18 joystick actions on every Atari game."""
    agent: AgentConfig = field(default_factory=lambda: preset("quick"))
    """The agent's settings; they start from the preset's."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and trains."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--preset", default="quick")
    try:
        name = chooser.parse_known_args(list(arguments))[0].preset
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    train(parse(TrainArgs, "train", arguments, TrainArgs(preset=name, agent=preset(name))))


def train(args: TrainArgs) -> None:
    """Trains as ``args`` say and prints where everything lies.

    Raises:
        InvalidEnv, InvalidConfig, InvalidRun, InvalidCheckpoint: what was asked for cannot be done.
    """
    out = args.out or _new_folder(args)
    run: dict[str, Any] | None = None
    env, num_envs, seed, protocol, full = args.env, args.num_envs, args.seed, args.protocol, args.full_action_space
    agent: DQN | None = None
    if args.resume:
        agent, run, saved = _load_run(out, args.device)
        env, num_envs, seed, protocol = saved["env"], saved["num_envs"], saved["seed"], saved["protocol"]
        full = saved["full_action_space"]
        if agent.step >= args.steps:
            raise InvalidRun(f"{out} has taken {agent.step:,} of {args.steps:,} steps already; give more --steps")
    resumed_at = agent.step if agent else 0
    if protocol not in ("sticky", "nature"):
        protocol = "sticky"  # no Atari game
    # A resumed run plays other games than it has already played.
    envs = make_vec(env, num_envs, seed + resumed_at, protocol, full_action_space=full)
    evaluation_envs = make_vec(env, min(8, args.evaluation_episodes), seed + EVALUATION_SEED, protocol, full_action_space=full)
    if agent is None:
        agent = DQN(
            envs.single_observation_space, envs.single_action_space, args.agent, device=args.device, seed=seed
        )
    print(f"{env} · {args.preset} · {agent.device} · {out}", file=sys.stderr)
    agent.learn(
        envs,
        args.steps - agent.step,
        out,
        evaluation_envs=evaluation_envs,
        evaluate_every=args.evaluate_every,
        evaluation_episodes=args.evaluation_episodes,
        checkpoint_every=args.checkpoint_every,
        log_every=args.log_every,
        progress=True,
        resume=run,
        description={"preset": args.preset, "full_action_space": full},
    )
    _report(out, args, make_vec(env, min(8, args.final_episodes), seed + 2 * EVALUATION_SEED, protocol, full_action_space=full))


def _report(out: Path, args: TrainArgs, envs: Any) -> None:
    """Evaluates the saved policy in fresh games and says where everything lies."""
    agent = DQN.load(out, args.device)
    result = evaluate(agent, envs, args.final_episodes, epsilon=envs.protocol.evaluation_epsilon, seed=args.seed)
    low, high = result.ci95
    print(
        f"The best policy, of step {agent.step:,}: mean return {result.mean:.1f} (95% {low:.1f} to {high:.1f}) "
        f"over {result.episodes} episodes.\n"
        f"  run          {out}\n"
        f"  curves       tensorboard --logdir {out}\n"
        f"  evaluate     pixelq evaluate {out} --episodes 30 --video {out / 'video'}\n"
        f"  go on        pixelq train --resume --out {out} --steps {2 * args.steps}"
    )


def _new_folder(args: TrainArgs) -> Path:
    if args.resume:
        raise InvalidRun("--resume needs --out, the folder of the run to go on with")
    name = args.env.split("/")[-1]
    return Path("runs") / f"{name}-{args.preset}-seed{args.seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _load_run(out: Path, device: str) -> tuple[DQN, dict[str, Any], dict[str, Any]]:
    """The latest agent of a run, what its checkpoint keeps of the run, and the run's configuration."""
    try:
        saved = json.loads((out / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise InvalidRun(f"{out} holds no run to resume ({error}); leave out --resume to start one") from error
    latest = out / "checkpoints" / "latest"
    if not latest.exists():
        raise InvalidCheckpoint(f"{out} has no checkpoint yet; start again in another --out")
    return DQN.load(latest, device), read_checkpoint(latest).state["run"], saved


if __name__ == "__main__":
    from pixelq.scripts.main import run as run_verb

    sys.exit(run_verb("train"))
